"""A chat completion's answer, whole or in chunks, in OpenAI's shape."""

from collections.abc import Sequence
from typing import Any

from deployments.llm.api.logprobs import describe_chat_logprobs
from deployments.llm.api.tool_answers import Arguments, CallBegun, Part, PlainAnswer, ToolAnswer, Words
from deployments.llm.engines.ports import Piece, Usage

Reader = PlainAnswer | ToolAnswer


def describe_choice(index: int, pieces: Sequence[Piece], reader: Reader, logprobs: bool) -> dict[str, Any]:
    """A whole choice. Calls that a limit cut are left out; the finish reason tells of the limit."""
    parts = [part for piece in pieces for part in reader.push(piece.text)] + reader.end()
    words = "".join(part.text for part in parts if isinstance(part, Words))
    calls = join_calls(parts)
    message: dict[str, Any] = {"role": "assistant", "content": words, "refusal": None}
    if calls:
        functions = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
            for call, arguments in calls
        ]
        message |= {"content": words or None, "tool_calls": functions}
    told = [token for piece in pieces for token in piece.logprobs]
    return {
        "index": index,
        "message": message,
        "finish_reason": name_finish(pieces[-1].finish_reason, reader),
        "logprobs": describe_chat_logprobs(told) if logprobs else None,
    }


def join_calls(parts: Sequence[Part]) -> list[tuple[CallBegun, str]]:
    """The whole calls with their arguments."""
    begun = [part for part in parts if isinstance(part, CallBegun)]
    given = [part for part in parts if isinstance(part, Arguments)]
    whole = {part.index for part in given if part.whole}
    return [
        (call, "".join(part.json for part in given if part.index == call.index))
        for call in begun
        if call.index in whole
    ]


def name_finish(finish: str | None, reader: Reader) -> str | None:
    """OpenAI's finish reason."""
    return "tool_calls" if finish == "stop" and reader.called else finish


class ChunkedChoice:
    """A choice of a stream; its chunks are made as pieces come."""

    def __init__(self, index: int, reader: Reader, logprobs: bool) -> None:
        self._index, self._reader, self._logprobs = index, reader, logprobs

    def begin(self) -> dict[str, Any]:
        """The first chunk's choice."""
        return self._choice({"role": "assistant", "content": ""})

    def push(self, piece: Piece) -> list[dict[str, Any]]:
        """What a piece of the answer makes."""
        parts = self._reader.push(piece.text) + (self._reader.end() if piece.finish_reason else [])
        choices = [self._choice(_delta(part)) for part in parts]
        if self._logprobs and piece.logprobs:
            if not choices:  # the text of these tokens is held back
                choices.append(self._choice({"content": ""}))
            choices[0]["logprobs"] = describe_chat_logprobs(piece.logprobs)
        if piece.finish_reason:
            choices.append(self._choice({}, name_finish(piece.finish_reason, self._reader)))
        return choices

    def _choice(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"index": self._index, "delta": delta, "finish_reason": finish, "logprobs": None}


def _delta(part: Part) -> dict[str, Any]:
    if isinstance(part, Words):
        return {"content": part.text}
    if isinstance(part, CallBegun):
        function = {"name": part.name, "arguments": ""}
        return {
            "tool_calls": [{"index": part.index, "id": part.id, "type": "function", "function": function}]
        }
    return {"tool_calls": [{"index": part.index, "function": {"arguments": part.json}}]}


def describe_usage(usage: Usage) -> dict[str, Any]:
    """Tokens, in the words of completions."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
