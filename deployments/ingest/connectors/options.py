"""What every declaration of a source may say: which of its documents are wanted. Connectors add their own keys.

It reads no file.
"""

import re
from functools import cached_property
from typing import Annotated

from fsspec.utils import glob_translate
from pydantic import BaseModel, ConfigDict, Field, field_validator

NonEmpty = Annotated[str, Field(min_length=1)]
SecretName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
"""A secret by name: the file `sources/<name>` in the folder of secrets, or a variable. It is never in a declaration."""


class SourceOptions(BaseModel):
    """Patterns of paths: `*` stays within a folder, `**` does not; one without a slash means the name alone."""

    # A misspelt key must not be ignored silently: the user would wonder why nothing changes.
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    include: tuple[NonEmpty, ...] = ()
    exclude: tuple[NonEmpty, ...] = ()

    @field_validator("include", "exclude")
    @classmethod
    def _are_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            _compile(pattern)
        return patterns

    def wants(self, path: str) -> bool:
        """Whether a document is asked for, by its path in the source."""
        included = not self.include or any(pattern.match(path) for pattern in self._included)
        return included and not any(pattern.match(path) for pattern in self._excluded)

    @cached_property
    def _included(self) -> list[re.Pattern[str]]:
        return [_compile(pattern) for pattern in self.include]

    @cached_property
    def _excluded(self) -> list[re.Pattern[str]]:
        return [_compile(pattern) for pattern in self.exclude]


def _compile(pattern: str) -> re.Pattern[str]:
    anywhere = pattern if "/" in pattern else f"**/{pattern}"
    try:
        return re.compile(glob_translate(anywhere.removeprefix("/")))
    except (ValueError, re.error) as error:
        raise ValueError(
            f"{pattern!r} is no pattern of paths ({error}); write it like 'docs/**/*.md'"
        ) from None
