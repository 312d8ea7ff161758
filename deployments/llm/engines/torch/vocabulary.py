"""The tokens of a chat model: texts and messages to them, and each one's bytes and likelihood in words of the ports.

It knows no weights.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from deployments.llm.engines.ports import Messages, TokenLogprob, Tokens
from deployments.llm.engines.token_numbers import check_tokens
from deployments.llm.engines.torch.chat_tokens import encode_prompt


class Vocabulary:
    """A tokenizer and the model's own size of vocabulary, which may be larger."""

    def __init__(self, tokenizer: Any, size: int, stop_tokens: frozenset[int]) -> None:
        self.tokenizer, self.size, self.stop_tokens = tokenizer, size, stop_tokens

    def encode(self, prompt: Messages | str | Tokens) -> list[int]:
        """Tokens of messages, by the chat template, of a text, or the tokens themselves."""
        if isinstance(prompt, str):
            return list(self.tokenizer(prompt, add_special_tokens=False)["input_ids"])
        if prompt and isinstance(prompt[0], int):
            return list(prompt)  # type: ignore[arg-type]
        return encode_prompt(self.tokenizer, prompt)  # type: ignore[arg-type]

    def decode(self, tokens: Tokens) -> str:
        """Their text. Raises ValueError for a token that the model does not have."""
        check_tokens(tokens, self.size)
        return str(self.tokenizer.decode(list(tokens)))

    @cached_property
    def guide(self) -> Any:
        """The tokenizer as llguidance reads it; made when it is first needed, in about a second."""
        import llguidance.hf

        return llguidance.hf.from_tokenizer(
            self.tokenizer, n_vocab=self.size, eos_token=sorted(self.stop_tokens) or None
        )

    def read_bytes(self, token: int) -> bytes:
        """The token's bytes: of one that is a part of a character, that part."""
        if token in self.tokenizer.all_special_ids:
            return str(self.tokenizer.convert_ids_to_tokens(token)).encode()
        return bytes(self.guide.decode_bytes([token]))

    def tell(self, logprobs: torch.Tensor, token: int, top: int) -> TokenLogprob:
        """A token in its place, with the `top` likeliest; `logprobs` are of the whole vocabulary."""
        best = torch.topk(logprobs, min(top, self.size)).indices.tolist() if top else []
        others = tuple(TokenLogprob(one, self.read_bytes(one), float(logprobs[one])) for one in best)
        return TokenLogprob(token, self.read_bytes(token), float(logprobs[token]), others)


@torch.inference_mode()
def score_tokens(model: Any, vocabulary: Vocabulary, tokens: Sequence[int], top: int) -> list[TokenLogprob]:
    """Each token's log probability after those before it; the first one's is NaN."""
    check_tokens(tokens, vocabulary.size)
    if not tokens:
        return []
    logits = model(torch.tensor([list(tokens)], device=model.device), use_cache=False).logits[0, :-1]
    first = TokenLogprob(tokens[0], vocabulary.read_bytes(tokens[0]), math.nan)
    told = [first]
    for row, token in zip(logits, tokens[1:], strict=True):  # a table of all rows would double the memory
        told.append(vocabulary.tell(torch.log_softmax(row.float().cpu(), -1), token, top))
    return told
