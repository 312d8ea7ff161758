"""Chooses tokens from logits: penalties for what was said already, biases, and seeded sampling.

It knows no model, cache or queue.
"""

from collections.abc import Sequence

import torch

from deployments.llm.engines.ports import GenerationRequest


def penalise(logits: torch.Tensor, tokens: Sequence[int], request: GenerationRequest) -> None:
    """Lowers, in place, the logits of the tokens generated so far, as OpenAI defines both penalties."""
    if not tokens or not (request.frequency_penalty or request.presence_penalty):
        return
    seen, counts = torch.tensor(tokens, device=logits.device).unique(return_counts=True)
    logits[seen] -= counts * request.frequency_penalty + request.presence_penalty


def bias(logits: torch.Tensor, request: GenerationRequest) -> None:
    """Adds, in place, what the request adds to the logits of single tokens."""
    if not request.logit_bias:
        return
    tokens = torch.tensor(list(request.logit_bias), device=logits.device)
    logits[tokens] += torch.tensor(
        list(request.logit_bias.values()), device=logits.device, dtype=logits.dtype
    )


def choose(logits: torch.Tensor, request: GenerationRequest, generator: torch.Generator) -> int:
    """The likeliest token at temperature 0, else one drawn."""
    return int(logits.argmax()) if request.temperature <= 0 else sample(logits, request, generator)


def sample(logits: torch.Tensor, request: GenerationRequest, generator: torch.Generator) -> int:
    """A token drawn with the request's temperature and nucleus."""
    # On the CPU in double precision, whatever the model's device: the same seed draws the same token.
    probabilities = torch.softmax(logits.cpu().double() / request.temperature, -1)
    if request.top_p < 1:
        ordered, indices = probabilities.sort(descending=True)
        ordered[ordered.cumsum(0) - ordered > request.top_p] = 0
        probabilities = torch.zeros_like(probabilities).scatter(0, indices, ordered)
    return int(torch.multinomial(probabilities, 1, generator=generator))
