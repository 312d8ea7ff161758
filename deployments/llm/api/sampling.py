"""The fields that chat and text completions share, and how many answers of which seeds they ask for."""

from collections.abc import Mapping
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator

from deployments.llm.routes.strict_body import StrictBody, refuse

MAX_CHOICES: Final = 8
"""Answers to one prompt."""
_SEEDS: Final = 2**63

Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Metadata = Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=16)]


class StreamOptions(StrictBody):
    """What else a stream carries; padding against eavesdroppers is not among it."""

    include_usage: bool | None = None
    include_obfuscation: Annotated[bool | None, Field(description="only false")] = None

    @model_validator(mode="after")
    def refuse_padding(self) -> Self:
        """Only false can be done."""
        if self.include_obfuscation:
            raise refuse("A stream is not padded here: send false.", "include_obfuscation")
        return self


class SamplingBody(StrictBody):
    """`user` can have no effect here and is let pass."""

    model: Name
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-_SEEDS, lt=_SEEDS)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    logit_bias: (
        Annotated[
            dict[
                Annotated[str, StringConstraints(pattern=r"^\d{1,9}$")],
                Annotated[float, Field(ge=-100, le=100)],
            ],
            Field(max_length=1024),
        ]
        | None
    ) = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    @model_validator(mode="after")
    def check_stream(self) -> Self:
        """Options of a stream need one."""
        if self.stream_options is not None and not self.stream:
            raise refuse("'stream_options' needs 'stream': true.", "stream_options")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop sequences."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def seeds(self) -> list[int | None]:
        """A seed for each choice: the one given, and those after it."""
        if self.seed is None:
            return [None] * (self.n or 1)
        return [(self.seed + index + _SEEDS) % (2 * _SEEDS) - _SEEDS for index in range(self.n or 1)]

    @property
    def biases(self) -> Mapping[int, float]:
        """The bias by token."""
        return {int(token): bias for token, bias in (self.logit_bias or {}).items()}

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)
