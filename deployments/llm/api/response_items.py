"""The input of a response: a text, or messages, calls of functions and their results; all become chat messages."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from deployments.llm.api.messages import CalledFunction, ToolCall, render_calls, render_result
from deployments.llm.routes.strict_body import StrictBody, refuse

Status = Literal["in_progress", "completed", "incomplete"]


class InputText(StrictBody):
    """What was said."""

    type: Literal["input_text"]
    text: str


class OutputText(StrictBody):
    """What a model said; what it was found in and how likely it was can have no effect."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class OutputRefusal(StrictBody):
    """What a model refused with."""

    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        """Its words."""
        return self.refusal


TextPart = Annotated[InputText | OutputText | OutputRefusal, Discriminator("type")]


class MessageItem(StrictBody):
    """A message. `id`, `status` and `phase` of an earlier answer can have no effect and are let pass."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[TextPart]
    id: str | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class CallItem(StrictBody):
    """A call in the history."""

    refused: ClassVar = {
        "namespace": "functions have names alone.",
        "caller": "only models call.",
        "async": "leave it out.",
    }

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status | None = None


class CallOutputItem(StrictBody):
    """What a function answered."""

    refused: ClassVar = {"namespace": "functions have names alone.", "caller": "only models call."}

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[InputText]
    id: str | None = None
    name: str | None = None
    status: Status | None = None


def _find_type(item: Any) -> str | None:
    if isinstance(item, dict):
        return item.get("type") or "message"
    return getattr(item, "type", None)


InputItem = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[CallOutputItem, Tag("function_call_output")],
    Discriminator(
        _find_type,
        custom_error_type="item_type",
        custom_error_message="Its 'type' must be message, function_call or function_call_output",
    ),
]
InputItems = Annotated[list[InputItem], Field(min_length=1, max_length=2048)]


def render_items(given: str | Sequence[InputItem], instructions: str | None) -> list[dict[str, str]]:
    """Chat messages. Raises a `refuse` error for a result of a call that nobody made."""
    messages = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    calls: dict[str, str] = {}
    open_calls: list[ToolCall] = []
    for index, item in enumerate(given):
        if isinstance(item, CallItem):
            calls[item.call_id] = item.name
            function = CalledFunction(name=item.name, arguments=item.arguments)
            open_calls.append(ToolCall(id=item.call_id, function=function))
            continue
        if open_calls:  # calls in a row are one answer
            messages.append({"role": "assistant", "content": render_calls(open_calls)})
            open_calls = []
        if isinstance(item, MessageItem):
            role = "system" if item.role == "developer" else item.role
            messages.append({"role": role, "content": _join(item.content)})
        elif item.call_id not in calls:
            raise refuse(f"No item before this one is the call '{item.call_id}'.", f"input.{index}.call_id")
        else:
            text = render_result(calls[item.call_id], _join(item.output))
            messages.append({"role": "user", "content": text})
    if open_calls:
        messages.append({"role": "assistant", "content": render_calls(open_calls)})
    return messages


def _join(content: str | Sequence[InputText | OutputText | OutputRefusal]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
