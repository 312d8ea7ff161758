"""A response while it grows: OpenAI's typed events, and the whole object at any moment.

It knows no transport.
"""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from deployments.llm.api.chat_answers import Reader
from deployments.llm.api.logprobs import describe_tokens
from deployments.llm.api.response_requests import ResponseBody
from deployments.llm.api.tool_answers import Arguments, CallBegun, Words
from deployments.llm.engines.ports import Piece, Usage

Event = dict[str, Any]


class GrowingResponse:
    """Feed it pieces; `output` and `describe` tell what there is so far."""

    def __init__(self, body: ResponseBody, reader: Reader, created: int) -> None:
        self._body, self._reader, self._created = body, reader, created
        self._id, self._sequence = f"resp_{uuid4().hex}", -1
        self._usage: Usage | None = None
        self._untold: list[Any] = []
        self.status = "in_progress"
        self.output: list[dict[str, Any]] = []
        self.error: dict[str, str] | None = None

    def begin(self) -> Iterator[Event]:
        """The first events."""
        yield self._lifecycle("created")
        yield self._lifecycle("in_progress")

    def push(self, piece: Piece) -> Iterator[Event]:
        """The events of a piece of the answer, to the last where it is the last."""
        if self._body.wants_logprobs:
            self._untold += describe_tokens(piece.logprobs)
        for part in self._reader.push(piece.text) + (self._reader.end() if piece.finish_reason else []):
            if isinstance(part, Words):
                yield from self._say(part.text)
            elif isinstance(part, CallBegun):
                yield from self._begin_call(part)
            else:
                yield from self._argue(part)
        if piece.finish_reason:
            whole = piece.finish_reason == "stop"
            if not self.output or (self._untold and self._is_open("message")):
                yield from self._say("")
            yield from self._close("completed" if whole else "incomplete")
            self._usage, self.status = piece.usage, "completed" if whole else "incomplete"
            yield self._lifecycle(self.status)

    def fail(self, message: str) -> Event:
        """The last event of a response that came to nothing."""
        self.status, self.error = "failed", {"code": "server_error", "message": message}
        return self._lifecycle("failed")

    def _is_open(self, kind: str) -> bool:
        return (
            bool(self.output)
            and self.output[-1]["type"] == kind
            and self.output[-1]["status"] == "in_progress"
        )

    def _say(self, text: str) -> Iterator[Event]:
        if not self._is_open("message"):
            item = {"type": "message", "id": f"msg_{uuid4().hex}", "role": "assistant"}
            yield from self._add({**item, "status": "in_progress", "content": []})
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            yield self._event("content_part.added", content_index=0, part=dict(part))
            self.output[-1]["content"].append(part)
        part = self.output[-1]["content"][0]
        part["text"] += text
        told, self._untold = self._untold, []
        part["logprobs"] += told
        yield self._event("output_text.delta", content_index=0, delta=text, logprobs=told)

    def _begin_call(self, call: CallBegun) -> Iterator[Event]:
        yield from self._close("completed")
        item = {"type": "function_call", "id": f"fc_{uuid4().hex}", "call_id": call.id, "name": call.name}
        yield from self._add({**item, "arguments": "", "status": "in_progress"})

    def _argue(self, part: Arguments) -> Iterator[Event]:
        self.output[-1]["arguments"] += part.json
        yield self._event("function_call_arguments.delta", delta=part.json)
        if part.whole:
            yield from self._close("completed")

    def _close(self, status: str) -> Iterator[Event]:
        """Ends the last item, if it is open."""
        if self._is_open("message"):
            part = self.output[-1]["content"][0]
            yield self._event(
                "output_text.done", content_index=0, text=part["text"], logprobs=part["logprobs"]
            )
            yield self._event("content_part.done", content_index=0, part=part)
        elif self._is_open("function_call"):
            arguments, name = self.output[-1]["arguments"], self.output[-1]["name"]
            yield self._event("function_call_arguments.done", arguments=arguments, name=name)
        else:
            return
        self.output[-1]["status"] = status
        yield self._number("output_item.done", output_index=len(self.output) - 1, item=self.output[-1])

    def _add(self, item: dict[str, Any]) -> Iterator[Event]:
        self.output.append(item)
        added = {**item, "content": []} if "content" in item else dict(item)
        yield self._number("output_item.added", output_index=len(self.output) - 1, item=added)

    def _event(self, kind: str, **fields: Any) -> Event:
        return self._number(kind, item_id=self.output[-1]["id"], output_index=len(self.output) - 1, **fields)

    def _lifecycle(self, kind: str) -> Event:
        return self._number(kind, response=self.describe())

    def _number(self, kind: str, **fields: Any) -> Event:
        self._sequence += 1
        return {"type": f"response.{kind}", "sequence_number": self._sequence, **fields}

    def describe(self) -> dict[str, Any]:
        """The response as it is now."""
        body = self._body.model_dump(by_alias=True, exclude_none=True)
        usage = self._usage
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": self.status,
            "error": self.error,
            "incomplete_details": {"reason": "max_output_tokens"} if self.status == "incomplete" else None,
            "instructions": self._body.instructions,
            "max_output_tokens": self._body.max_output_tokens,
            "model": self._body.model,
            "output": list(self.output),
            "parallel_tool_calls": self._body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": 1.0 if self._body.temperature is None else self._body.temperature,
            "text": {"format": body.get("text", {}).get("format", {"type": "text"})},
            "tool_choice": body.get("tool_choice", "auto"),
            "tools": [{"strict": False, "parameters": None, **tool} for tool in body.get("tools", [])],
            "top_p": 1.0 if self._body.top_p is None else self._body.top_p,
            "top_logprobs": self._body.top_logprobs or 0,
            "truncation": "disabled",
            "metadata": self._body.metadata or {},
            "usage": None if usage is None else describe_usage(usage),
        }


def describe_usage(usage: Usage) -> dict[str, Any]:
    """Tokens, in the words of responses."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
