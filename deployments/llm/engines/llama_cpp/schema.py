"""JSON schemas as grammars of llguidance, which llama.cpp carries. Plain functions."""

import json
from collections.abc import Mapping
from typing import Any, Final

from deployments.llm.engines.ports import UnsupportedError

# Small models repeat optional white space for ever.
_COMPACT: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
MAX_SCHEMA_BYTES: Final = 64 * 1024
"""Schemas are compiled between two tokens of everybody's answers."""


def write_grammar(schema: Mapping[str, Any]) -> str:
    """The grammar of a schema; the empty schema allows any object. Raises UnsupportedError where it is too long."""
    try:
        text = json.dumps({"x-guidance": _COMPACT, **(schema or {"type": "object"})})
    except (TypeError, ValueError, RecursionError) as error:
        raise UnsupportedError(f"The JSON schema can't be read: {error}", "response_format") from error
    if len(text) > MAX_SCHEMA_BYTES:
        raise UnsupportedError(
            f"The JSON schema has {len(text)} bytes; {MAX_SCHEMA_BYTES} is the limit.", "response_format"
        )
    return f"%llguidance {{}}\nstart: %json {text}"


SELF_TEST: Final = {"a": 1}


def write_self_test(prompt_token: int) -> dict[str, Any]:
    """A request that only the text of SELF_TEST answers, where grammars work with the model's tokenizer."""
    grammar = write_grammar({"const": SELF_TEST})
    return {
        "prompt": [prompt_token],
        "n_predict": 24,
        "temperature": 0,
        "grammar": grammar,
        "cache_prompt": False,
    }


def passes_self_test(text: str) -> bool:
    """Whether that is the text."""
    try:
        return bool(json.loads(text) == SELF_TEST)
    except ValueError:
        return False


def write_probe(grammar: str, prompt_token: int, impossible_token: int) -> dict[str, Any]:
    """A request that shows whether llama.cpp holds to the grammar: where it can't, it silently leaves it out.

    JSON never begins with the impossible token, which is made the likeliest: it comes where nothing forbids it.
    """
    return {
        "prompt": [prompt_token],
        "n_predict": 1,
        "temperature": 0,
        "grammar": grammar,
        "logit_bias": [[impossible_token, 1e6]],
        "n_probs": 1,
        "cache_prompt": False,
    }
