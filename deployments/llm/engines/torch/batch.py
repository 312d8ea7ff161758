"""Decodes several answers of one model together; new ones join between two tokens.

It knows no queue, thread or model id.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache

from deployments.llm.engines.answer_text import AnswerText
from deployments.llm.engines.ports import (
    EngineError,
    FinishReason,
    GenerationRequest,
    Piece,
    TokenLogprob,
    Usage,
)
from deployments.llm.engines.queued_generation import QueuedGeneration
from deployments.llm.engines.torch.sampling import bias, choose, penalise
from deployments.llm.engines.torch.schema import SchemaGuide
from deployments.llm.engines.torch.vocabulary import Vocabulary


@dataclass(eq=False)
class TorchGeneration(QueuedGeneration):
    """One answer in the making; the decoding thread puts pieces, the caller's thread takes them."""

    request: GenerationRequest
    prompt: list[int]
    max_tokens: int
    generator: torch.Generator
    answer: AnswerText
    guide: SchemaGuide | None = None
    told: list[TokenLogprob] = field(default_factory=list)  # since the last piece
    tokens: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt)

    @property
    def length(self) -> int:
        """Tokens of the prompt and of the longest answer."""
        return len(self.prompt) + self.max_tokens


class Batch:
    """The running answers of one model, left-padded, with one shared key-value cache."""

    def __init__(self, model: Any, vocabulary: Vocabulary) -> None:
        self._model, self._vocabulary = model, vocabulary
        self.rows: list[TorchGeneration] = []
        self._cache: DynamicCache | None = None
        self._mask: torch.Tensor | None = None

    @torch.inference_mode()
    def join(self, newcomers: list[TorchGeneration]) -> None:
        """Reads the prompts of new answers and takes their first tokens."""
        width = max(len(row.prompt) for row in newcomers)
        device = self._model.device
        ids = torch.tensor([[0] * (width - len(row.prompt)) + row.prompt for row in newcomers], device=device)
        mask = torch.tensor(
            [[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in newcomers], device=device
        )
        cache = DynamicCache()
        logits = self._forward(ids, mask, (mask.cumsum(1) - 1).clamp(min=0), cache)
        if self._cache is None or self._mask is None or not self.rows:
            self.rows, self._cache, self._mask = [], cache, mask
        else:
            self._merge(cache, mask)
        self.rows.extend(newcomers)
        self._accept(newcomers, logits)

    @torch.inference_mode()
    def step(self) -> None:
        """One more token for every row."""
        self._drop()
        if not self.rows or self._mask is None or self._cache is None:
            return
        device = self._model.device
        ids = torch.tensor([[row.tokens[-1]] for row in self.rows], device=device)
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self.rows), 1)], dim=1)
        positions = self._mask.sum(1, keepdim=True) - 1
        self._accept(self.rows, self._forward(ids, self._mask, positions, self._cache))

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float()

    def _accept(self, rows: list[TorchGeneration], logits: torch.Tensor) -> None:
        for row, scores in zip(rows, logits, strict=True):
            try:
                self._accept_one(row, scores)
            except EngineError as error:  # a schema that can't be followed further ends its own answer alone
                row.fail(error)
        self._drop()

    def _accept_one(self, row: TorchGeneration, logits: torch.Tensor) -> None:
        request = row.request
        # Told are the model's own probabilities, before anything is asked of it.
        logprobs = None if request.logprobs is None else torch.log_softmax(logits.cpu(), -1)
        penalise(logits, row.tokens, request)
        bias(logits, request)
        if row.guide is not None:
            logits[~row.guide.allowed().to(logits.device)] = -torch.inf
        token = choose(logits, request, row.generator)
        ended = token in self._vocabulary.stop_tokens
        whole = row.guide is not None and row.guide.take(token)
        row.tokens.append(token)
        if logprobs is not None and not ended:
            row.told.append(self._vocabulary.tell(logprobs, token, request.logprobs or 0))
        said = row.tokens[:-1] if ended else row.tokens
        full = len(row.tokens) >= row.max_tokens
        text = self._vocabulary.tokenizer.decode(said, skip_special_tokens=True)
        piece = row.answer.push(text, last=ended or whole or full)
        finish: FinishReason | None = None
        if ended or whole or row.answer.stopped:
            finish = "stop"
        elif full:
            finish = "length"
        if piece or finish:
            usage = Usage(len(row.prompt), len(row.tokens)) if finish else None
            row.put(Piece(piece, finish, usage, tuple(row.told)))
            row.told.clear()
        if finish:
            row.ended.set()

    def _drop(self) -> None:
        """Removes the rows that have ended or were cancelled."""
        keep = [index for index, row in enumerate(self.rows) if not row.ended.is_set()]
        if len(keep) == len(self.rows):
            return
        self.rows = [self.rows[index] for index in keep]
        if not keep or self._cache is None or self._mask is None:
            self._cache = self._mask = None
            return
        self._mask = self._mask[keep]
        # Columns that are padding in every remaining row cost time in each step.
        skip = int(self._mask.argmax(1).min())
        self._mask = self._mask[:, skip:]
        for layer in self._cache.layers:
            layer.keys, layer.values = layer.keys[keep][:, :, skip:], layer.values[keep][:, :, skip:]

    def _merge(self, cache: DynamicCache, mask: torch.Tensor) -> None:
        """Appends the newcomers' cache below ours, both padded on the left to one width."""
        assert self._cache is not None and self._mask is not None
        width = max(self._mask.shape[1], mask.shape[1])
        ours, theirs = width - self._mask.shape[1], width - mask.shape[1]
        self._mask = torch.cat([pad(self._mask, (ours, 0)), pad(mask, (theirs, 0))])
        for mine, new in zip(self._cache.layers, cache.layers, strict=True):
            mine.keys = torch.cat([pad(mine.keys, (0, 0, ours, 0)), pad(new.keys, (0, 0, theirs, 0))])
            mine.values = torch.cat([pad(mine.values, (0, 0, ours, 0)), pad(new.values, (0, 0, theirs, 0))])
