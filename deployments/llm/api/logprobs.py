"""Tokens' log probabilities as OpenAI's answers have them."""

import math
from collections.abc import Sequence
from typing import Any, Final

from deployments.llm.engines.ports import TokenLogprob

_LEAST: Final = -9999.0
"""What stands for no probability at all: JSON has no infinity."""


def describe_chat_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """`logprobs` of a chat choice."""
    return {"content": describe_tokens(tokens), "refusal": None}


def describe_tokens(tokens: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """Each token with its alternatives."""
    return [
        {**_describe(token), "top_logprobs": [_describe(other) for other in token.top]} for token in tokens
    ]


def describe_text_logprobs(tokens: Sequence[TokenLogprob], start: int = 0) -> dict[str, Any]:
    """`logprobs` of a text completion; `start` is where in its text the first token begins, in characters.

    A token that nothing comes before has no probability, and no alternatives.
    """
    offsets, data = [], b""
    for token in tokens:
        offsets.append(start + len(data.decode(errors="ignore")))
        data += token.data
    return {
        "tokens": [_name(token.data) for token in tokens],
        "token_logprobs": [None if math.isnan(token.logprob) else _number(token.logprob) for token in tokens],
        "top_logprobs": [
            None
            if math.isnan(token.logprob)
            else {_name(other.data): _number(other.logprob) for other in (*token.top, token)}
            for token in tokens
        ],
        "text_offset": offsets,
    }


def _describe(token: TokenLogprob) -> dict[str, Any]:
    return {
        "token": token.data.decode(errors="replace"),
        "bytes": list(token.data),
        "logprob": _number(token.logprob),
    }


def _name(data: bytes) -> str:
    """The token's text; part of a character is told by its bytes, so that no two look the same."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _number(logprob: float) -> float:
    return _LEAST if math.isnan(logprob) else max(logprob, _LEAST)
