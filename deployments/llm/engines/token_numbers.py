"""Refuses tokens that a model does not have. It knows no tokenizer but the size of its vocabulary."""

from collections.abc import Iterable

from deployments.llm.engines.ports import GenerationRequest, UnsupportedError


def check_tokens(tokens: Iterable[int], size: int) -> None:
    """Raises ValueError for the first one that a vocabulary of that size does not have."""
    unknown = next((token for token in tokens if not 0 <= token < size), None)
    if unknown is not None:
        raise ValueError(f"This model has no token {unknown}.")


def check_request(request: GenerationRequest, size: int) -> None:
    """The same for what a generation names by number. Raises UnsupportedError with the parameter's name."""
    prompt = [] if isinstance(request.prompt, str) else request.prompt
    given = {
        "logit_bias": request.logit_bias,
        "prompt": prompt if prompt and isinstance(prompt[0], int) else [],
    }
    for param, tokens in given.items():
        try:
            check_tokens(tokens, size)  # type: ignore[arg-type]
        except ValueError as error:
            raise UnsupportedError(str(error), param) from error
