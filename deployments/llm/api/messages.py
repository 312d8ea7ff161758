"""Chat messages as OpenAI has them, and as a chat template of three roles takes them.

Calls of functions and their results become text: the answers that `tools` asks for, and what a user would say.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, model_validator

from deployments.llm.api.tools import ToolUse
from deployments.llm.routes.strict_body import StrictBody, refuse


class TextPart(StrictBody):
    """A part of a message; only text is understood."""

    type: Literal["text"]
    text: str


class RefusalPart(StrictBody):
    """What a model refused with; for the next answer it is a text."""

    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        """Its words."""
        return self.refusal


Content = str | list[TextPart]
Speaker = Annotated[str, Field(min_length=1, max_length=64)]


class SpokenMessage(StrictBody):
    """A message of the system or the user; a speaker's `name` stands before the text."""

    role: Literal["system", "developer", "user"]
    content: Content
    name: Speaker | None = None


class CalledFunction(StrictBody):
    """What was called; `arguments` is JSON."""

    name: str
    arguments: str


class ToolCall(StrictBody):
    """A call in the history."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class AssistantMessage(StrictBody):
    """An answer in the history. `annotations`, and the `provider_specific_fields` that litellm sends back with an
    answer, can have no effect and are let pass."""

    refused: ClassVar = {
        "function_call": "use 'tool_calls'.",
        "audio": "there is only text.",
    }

    role: Literal["assistant"]
    content: str | list[Annotated[TextPart | RefusalPart, Discriminator("type")]] | None = None
    refusal: str | None = None
    name: Speaker | None = None
    tool_calls: list[ToolCall] | None = None
    annotations: list[Any] | None = None
    provider_specific_fields: dict[str, Any] | None = None

    @model_validator(mode="after")
    def check_something_said(self) -> Self:
        """Words, a refusal or calls."""
        if self.content is None and self.refusal is None and not self.tool_calls:
            raise refuse("An assistant's message needs 'content' or 'tool_calls'.", "content")
        return self


class ToolMessage(StrictBody):
    """What a function answered."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = None


class FunctionMessage(StrictBody):
    """The older way to tell what a function answered."""

    role: Literal["function"]

    @model_validator(mode="before")
    @classmethod
    def refuse_it(cls, _: Any) -> Any:
        """Always."""
        raise refuse("The role 'function' is not supported here: use 'tool' with 'tool_call_id'.", "role")


ChatMessage = Annotated[
    SpokenMessage | AssistantMessage | ToolMessage | FunctionMessage, Discriminator("role")
]


def render_messages(messages: Sequence[ChatMessage], tools: ToolUse | None = None) -> list[dict[str, str]]:
    """Messages of the roles system, user and assistant, with what the functions are at the end of the system's first.

    Raises a `refuse` error for a result of a call that nobody made.
    """
    calls: dict[str, str] = {}
    rendered = []
    for index, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in calls:
                raise refuse(
                    f"No message before this one calls a function with the id '{message.tool_call_id}'.",
                    f"messages.{index}.tool_call_id",
                )
            text = render_result(calls[message.tool_call_id], _join(message.content))
            rendered.append({"role": "user", "content": text})
        elif isinstance(message, AssistantMessage):
            called = message.tool_calls or []
            calls |= {call.id: call.function.name for call in called}
            texts = (_named(message.name, _join(message.content)), message.refusal, render_calls(called))
            rendered.append({"role": "assistant", "content": "\n".join(filter(None, texts))})
        elif isinstance(message, SpokenMessage):
            role = "user" if message.role == "user" else "system"
            rendered.append({"role": role, "content": _named(message.name, _join(message.content))})
    return add_instructions(rendered, tools.instructions) if tools else rendered


def add_instructions(messages: list[dict[str, str]], instructions: str) -> list[dict[str, str]]:
    """With more in the system's words, which come first."""
    if messages and messages[0]["role"] == "system":
        first = {"role": "system", "content": f"{messages[0]['content']}\n\n{instructions}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": instructions}, *messages]


def render_calls(calls: Sequence[ToolCall]) -> str:
    """Calls as the model is asked to write them; nothing for none."""
    written = [
        f'{{"name": {json.dumps(call.function.name)}, "arguments": {call.function.arguments}}}'
        for call in calls
    ]
    if len(written) > 1:
        return f'{{"tool_calls": [{", ".join(written)}]}}'
    return "".join(written)


def render_result(function: str, result: str) -> str:
    """What a function answered, as a user would tell it."""
    return f"{function} answered:\n{result}"


def _join(content: str | Sequence[TextPart | RefusalPart] | None) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content or ())


def _named(name: str | None, text: str) -> str:
    return f"{name}: {text}" if name and text else text
