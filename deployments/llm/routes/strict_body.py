"""The base of every request body: what is not known or can't be done is refused by name, never left out in silence."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


def refuse(message: str, param: str = "") -> PydanticCustomError:
    """The error for a validator to raise: `message` reaches the client as it is, and names `param` below the place
    where it is raised."""
    # As a context value: braces in a message are no placeholders.
    return PydanticCustomError("refused", "{message}", {"message": message, "param": param})


class StrictBody(BaseModel):
    """A JSON object without unknown fields, of finite numbers and of texts that UTF-8 can hold; "1" is no number and 1
    no truth.

    `refused` are fields that OpenAI has and this server doesn't, with what to do instead; null for one is let pass.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)

    refused: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def refuse_fields(cls, given: Any) -> Any:
        """Turns away a field in `refused`."""
        if not isinstance(given, dict):
            return given
        for name, remedy in cls.refused.items():
            if given.get(name) is not None:
                raise refuse(f"'{name}' is not supported here: {remedy}", name)
        for name, value in given.items():
            if not _is_sendable(value):
                raise refuse(f"'{name}' has half a surrogate pair in it, which is no text.", name)
        return {name: value for name, value in given.items() if name not in cls.refused}


def _is_sendable(value: Any) -> bool:
    """Whether a text, or each in a list or an object, can be encoded; bodies within have their own check."""
    texts: Iterable[Any] = [value]
    if isinstance(value, dict):
        texts = (*value, *value.values())
    elif isinstance(value, list) and value and isinstance(value[0], str):
        texts = value
    try:
        for text in texts:
            if isinstance(text, str) and not text.isascii():
                text.encode()
    except UnicodeEncodeError:
        return False
    return True
