"""A request in llama.cpp's terms, with OpenAI's meaning of each parameter. Plain functions."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from deployments.llm.engines.ports import GenerationRequest

# As the torch engine draws: penalties, then the temperature, then the nucleus; nothing that was not asked for.
_SAMPLERS: Final = ["penalties", "temperature", "top_p"]
_NEUTRAL: Final = {
    "samplers": _SAMPLERS,
    "top_k": 0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_penalty": 1.0,
    "cache_prompt": True,
    "return_progress": True,  # a chunk for each batch of the prompt read: the moment to cancel
    "timings_per_token": True,  # tells with each chunk how many tokens were written
}
_MAX_SEED: Final = 2**32 - 1


def write_body(
    request: GenerationRequest,
    prompt: Sequence[int],
    answer: Sequence[int],
    max_tokens: int,
    lora: Sequence[Mapping[str, float]],
    grammar: str,
) -> dict[str, Any]:
    """What llama.cpp is asked for: to go on after the prompt and the part of the answer that there is.

    `max_tokens` is for the whole answer.
    """
    body = {
        **_NEUTRAL,
        "prompt": [*prompt, *answer],
        "n_predict": max_tokens - len(answer),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "frequency_penalty": request.frequency_penalty,
        "presence_penalty": request.presence_penalty,
        "repeat_last_n": len(prompt) + max_tokens,  # all of it; by default it forgets what is 64 tokens ago
        "logit_bias": [[token, bias] for token, bias in _weigh(request, prompt, answer).items()],
        "n_probs": count_alternatives(request),
        "lora": list(lora),
    }
    if request.seed is not None:
        body["seed"] = (request.seed + len(answer)) % _MAX_SEED
    if grammar:
        body["grammar"] = grammar
    return body


def count_alternatives(request: GenerationRequest) -> int:
    """How many of the likeliest tokens llama.cpp tells with each; above 0 it tells the token's number too."""
    if request.logprobs is not None:
        return max(1, request.logprobs)
    return 1 if watches_tokens(request) else 0


def watches_tokens(request: GenerationRequest) -> bool:
    """Whether the answer must be begun anew when it first uses a token of the prompt.

    A grammar can't be begun in mid-answer: with one, the presence penalty spares the prompt's tokens.
    """
    return bool(request.presence_penalty) and request.json_schema is None


def _weigh(request: GenerationRequest, prompt: Sequence[int], answer: Collection[int]) -> dict[int, float]:
    """The caller's bias, and what takes back the penalties for the prompt's tokens: OpenAI's count the answer alone.

    The frequency penalty grows with the count, so the prompt's share is a constant. The presence penalty is due
    once the token stands in the answer.
    """
    bias = dict(request.logit_bias)
    if request.frequency_penalty or request.presence_penalty:
        for token, count in Counter(prompt).items():
            share = count * request.frequency_penalty
            if token not in answer:
                share += request.presence_penalty
            bias[token] = bias.get(token, 0.0) + share
    return bias
