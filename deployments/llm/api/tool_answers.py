"""Reads an answer while it grows: words of it, or calls of functions in the JSON that `tools` asks for.

It knows no event and no route; where an answer keeps to no JSON, it is words.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from pydantic_core import from_json

from deployments.llm.engines.answer_text import AnswerText

_CALLS: Final = re.compile(r'\s*\{\s*"tool_calls"\s*:\s*\[\s*')
_CALL: Final = re.compile(
    r'\s*(?:\}\s*,\s*)?\{\s*"name"\s*:\s*"([a-zA-Z0-9_-]{1,64})"\s*,\s*"arguments"\s*:\s*(?=\{)'
)
_RESPONSE: Final = re.compile(r'\s*\{\s*"response"\s*:\s*(?=\S)')
_DECODER: Final = json.JSONDecoder()


@dataclass(frozen=True)
class Words:
    """More of the answer's text."""

    text: str


@dataclass(frozen=True)
class CallBegun:
    """The answer's next call: its place among them, its id and the function."""

    index: int
    id: str
    name: str


@dataclass(frozen=True)
class Arguments:
    """More of a call's arguments, as JSON; `whole` with the last of them."""

    index: int
    json: str
    whole: bool


Part = Words | CallBegun | Arguments


class PlainAnswer:
    """An answer that is words."""

    called = False

    def push(self, text: str) -> list[Part]:
        """What a piece of the answer brings."""
        return [Words(text)] if text else []

    def end(self) -> list[Part]:
        """What is left when the answer has ended."""
        return []


class ToolAnswer:
    """An answer that calls functions, or says something under "response": a text, or JSON of its own.

    Stop sequences cut the text alone; they would break JSON.
    """

    def __init__(self, stop: Sequence[str] = (), *, json_response: bool = False) -> None:
        self._text, self._at = "", 0
        self._kind: str | None = None
        self._calls, self._open = 0, False
        self._sent = 0
        self._json_response, self._words = json_response, AnswerText(stop)

    @property
    def called(self) -> bool:
        """Whether a call has been read to its end."""
        return self._calls > 0

    def push(self, text: str) -> list[Part]:
        """What a piece of the answer brings: nothing while it may still become either."""
        self._text += text
        if self._kind is None and (begun := _RESPONSE.match(self._text)):
            self._kind, self._at = "response", begun.end()
        if self._kind is None and (_CALLS.match(self._text) or _CALL.match(self._text)):
            self._kind = "calls"
            many = _CALLS.match(self._text)
            self._at = many.end() if many else 0
        if self._kind is None and self._text.strip() and not self._text.lstrip().startswith("{"):
            self._kind = "plain"
        match self._kind:
            case "response":
                return self._say(self._read_response())
            case "plain":
                return self._say(self._text)
            case "calls":
                return self._read_calls()
        return []

    def end(self) -> list[Part]:
        """What is left: what was held back, or all of an answer that kept to no form."""
        if self._kind is None:
            return self._read_other()
        if self._kind == "calls":
            return []
        words = self._read_response() if self._kind == "response" else self._text
        return self._say(words, last=True)

    def _say(self, words: str, *, last: bool = False) -> list[Part]:
        # A model may write half a surrogate pair as an escape; nobody could be sent that.
        piece = self._words.push(words.encode(errors="replace").decode(), last=last)
        return [Words(piece)] if piece else []

    def _read_response(self) -> str:
        rest = self._text[self._at :]
        if self._json_response or not rest.startswith('"'):
            try:
                return rest[: _DECODER.raw_decode(rest)[1]]
            except ValueError:
                return rest
        try:
            return _DECODER.raw_decode(rest)[0]
        except ValueError:
            return _decode_begun(rest)

    def _read_calls(self) -> list[Part]:
        parts: list[Part] = []
        while True:
            if not self._open:
                begun = _CALL.match(self._text, self._at)
                if not begun:
                    return parts
                self._at, self._open = begun.end(), True
                parts.append(CallBegun(self._calls, f"call_{uuid4().hex[:24]}", begun[1]))
                self._sent = self._at
            try:
                end = _DECODER.raw_decode(self._text, self._at)[1]
            except ValueError:
                if more := self._text[self._sent :]:
                    parts.append(Arguments(self._calls, more, whole=False))
                self._sent = len(self._text)
                return parts
            parts.append(Arguments(self._calls, self._text[self._sent : end], whole=True))
            self._calls, self._open, self._at = self._calls + 1, False, end

    def _read_other(self) -> list[Part]:
        """JSON whose names come in another order than was asked for, else words."""
        try:
            value = json.loads(self._text)
        except ValueError:
            return self._say(self._text, last=True)
        calls = value.get("tool_calls", [value]) if isinstance(value, dict) else None
        if not isinstance(calls, list) or not calls or not all(map(_is_call, calls)):
            return self._say(self._text, last=True)
        parts: list[Part] = []
        for index, call in enumerate(calls):
            parts.append(CallBegun(index, f"call_{uuid4().hex[:24]}", call["name"]))
            parts.append(Arguments(index, json.dumps(call["arguments"], ensure_ascii=False), whole=True))
        self._calls = len(calls)
        return parts


def _is_call(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"name", "arguments"}
        and isinstance(value["name"], str)
        and isinstance(value["arguments"], dict)
    )


def _decode_begun(text: str) -> str:
    """What a JSON string without its end says so far; half an escape waits."""
    for cut in range(min(12, len(text))):
        try:
            value = from_json(text[: len(text) - cut], allow_partial="trailing-strings")
        except ValueError:
            continue
        return value if isinstance(value, str) else ""
    return ""
