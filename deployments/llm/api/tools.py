"""Functions that a model may call: which, and how the choice among them and the form of the answer are told.

The chat template of a small model knows no tools: they stand in the system prompt, and a JSON schema holds the answer
to a call `{"name": …, "arguments": {…}}`, several calls `{"tool_calls": [ … ]}`, or words `{"response": "…"}`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import StringConstraints, model_validator

from deployments.llm.api.json_schemas import MAX_BYTES, prepare_schema
from deployments.llm.routes.strict_body import StrictBody, refuse

MAX_TOOLS: Final = 64
MAX_CALLS: Final = 4
"""Calls in one answer: a small model that may go on calling does."""

ToolName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Mode = Literal["auto", "none", "required"]
_NO_PARAMETERS: Final = {"type": "object", "properties": {}, "additionalProperties": False}


class Function(StrictBody):
    """A function. With `strict` its whole schema must be one that arguments can be held to; else what can't be held
    to is only told to the model."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @model_validator(mode="after")
    def check_parameters(self) -> Self:
        """Arguments are an object, and can be held to."""
        if self.parameters and self.parameters.get("type", "object") != "object":
            raise refuse("The parameters of a function must be of type 'object'.", "parameters.type")
        self.hold()
        return self

    def hold(self) -> dict[str, Any]:
        """The schema that arguments are held to."""
        if not self.parameters:
            return _NO_PARAMETERS
        held = prepare_schema(self.parameters, lenient=not self.strict, at="parameters")
        return {**held, "type": "object"}


@dataclass(frozen=True)
class ToolUse:
    """How an answer may call functions. `choice`: "auto" leaves it to the model, "required" makes it call.

    `parallel`: several calls in an answer; `response` is the schema of an answer in words, text where it is None.
    """

    functions: tuple[Function, ...]
    choice: Literal["auto", "required"] = "auto"
    parallel: bool = False
    response: Mapping[str, Any] | None = None

    @cached_property
    def answer_schema(self) -> dict[str, Any]:
        """What the whole answer is held to."""
        calls = [
            _object(name={"const": function.name}, arguments=function.hold()) for function in self.functions
        ]
        call = calls[0] if len(calls) == 1 else {"anyOf": calls}
        if self.parallel:
            call = _object(tool_calls={"type": "array", "items": call, "minItems": 1, "maxItems": MAX_CALLS})
        if self.choice == "required":
            return call
        text = {"type": "string"} if self.response is None else self.response or {"type": "object"}
        return {"anyOf": [*call.get("anyOf", [call]), _object(response=text)]}

    @property
    def instructions(self) -> str:
        """What the system prompt says of them."""
        functions = "\n".join(
            _dump(
                {
                    "name": function.name,
                    **({"description": function.description} if function.description else {}),
                    "parameters": function.parameters or _NO_PARAMETERS,
                }
            )
            for function in self.functions
        )
        call = '{"name": <name>, "arguments": <object>}'
        if self.parallel:
            call = f'{{"tool_calls": [{call}, …]}}'
        words = "" if self.choice == "required" else ' To answer in words, answer {"response": <your words>}.'
        return f"You can call these functions:\n{functions}\nTo call, answer with JSON: {call}.{words}"


def choose_tools(
    functions: Sequence[Function],
    choice: Mode,
    *,
    named: str | None = None,
    allowed: Sequence[str] | None = None,
    parallel: bool = True,
    response: Mapping[str, Any] | None = None,
) -> ToolUse | None:
    """What may be called: None for nothing. `named` is the one that must be, `allowed` narrows the choice.

    Raises `refuse` errors with the parameters `tools` and `tool_choice`.
    """
    names = [function.name for function in functions]
    if duplicates := {name for name in names if names.count(name) > 1}:
        raise refuse(f"Two tools have the name '{min(duplicates)}'.", "tools")
    if not functions:
        if choice in ("auto", "none") and named is None and allowed is None:
            return None
        raise refuse("'tool_choice' needs 'tools'.", "tool_choice")
    if unknown := {*(allowed or ()), *([named] if named else [])} - set(names):
        raise refuse(f"There is no tool '{min(unknown)}'.", "tool_choice")
    if choice == "none":
        return None
    use = ToolUse(tuple(functions), "auto", parallel, response)
    if named is not None:
        use = replace(use, choice="required", parallel=False)
    elif choice == "required":
        use = replace(use, choice="required")
    wanted = [named] if named is not None else allowed
    kept = tuple(function for function in functions if wanted is None or function.name in wanted)
    use = replace(use, functions=kept)
    if len(_dump(use.answer_schema)) > MAX_BYTES:
        raise refuse(f"The parameters of the tools are longer than {MAX_BYTES} bytes together.", "tools")
    return use


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
