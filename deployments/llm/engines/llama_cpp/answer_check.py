"""Checks whole answers against the schema they were to be held to. It knows no grammar.

In mid-answer llama.cpp leaves a grammar out, without a word, once its patterns need more states than it may keep. What
comes after that may be anything: half a JSON text, or a whole one that breaks the schema.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from deployments.llm.engines.ports import UnsupportedError

_PARAM: Final = "response_format"
_MAX_PATTERNS: Final = 250_000
"""Characters of all patterns, each as often as its repetitions say: a library writes these out, 1 KB for each."""
_MAX_PATTERN_BYTES: Final = 10 * 2**20
_REPETITION: Final = re.compile(r"\{(\d*),?(\d*)\}")


class AnswerCheck:
    """Call it with an answer; raises UnsupportedError for one that breaks the schema. `{}` allows any object.

    Patterns are matched in time linear to the text, and nothing is fetched. Raises UnsupportedError where the schema
    itself can't be checked: it is then known before an answer begins.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

        weight = sum(map(_weigh, _find_patterns(schema)))
        if weight > _MAX_PATTERNS:
            raise UnsupportedError(
                "The patterns of the JSON schema repeat too much: make them simpler.", _PARAM
            )
        try:
            self._validator = Draft202012Validator(
                dict(schema) or {"type": "object"},
                validate_formats=True,
                pattern_options=RegexOptions(
                    size_limit=_MAX_PATTERN_BYTES, dfa_size_limit=_MAX_PATTERN_BYTES
                ),
                offline=True,
            )
        except (ValueError, ValidationError) as error:
            reason = str(error).splitlines()[0][:300]
            raise UnsupportedError(
                f"No answer can be checked against the JSON schema: {reason}", _PARAM
            ) from error

    def __call__(self, text: str) -> None:
        try:
            kept = self._validator.is_valid(_read(text))
        except (ValueError, RecursionError):
            kept = False
        if not kept:
            raise UnsupportedError(
                "The answer could not be held to the JSON schema to its end: make the patterns in it simpler.",
                _PARAM,
            )


def _read(text: str) -> Any:
    """The JSON; half a surrogate pair, which may stand in it as an escape, is one character like any other."""
    value = json.loads(text)
    return json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))


def _find_patterns(schema: Any) -> Iterator[str]:
    parts = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ()
    for part in parts:
        yield from _find_patterns(part)
    if isinstance(schema, Mapping) and isinstance(schema.get("pattern"), str):
        yield schema["pattern"]


def _weigh(pattern: str) -> int:
    weight = len(pattern)
    for match in _REPETITION.finditer(pattern):
        weight *= max(1, *(int(count or 0) for count in match.groups()))
    return weight
