"""What the last start was told, kept beside what it started: whoever looks at that or stops it is told by this.

It knows no component. Another shell, another `.env`, a Java that is gone from PATH or a newer checkout change nothing
about what runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from stack.component import Component, Unavailable
from stack.config import StackConfig
from stack.secrets import write_private


@dataclass(frozen=True)
class Record:
    """The declarations of a start, without their environments, and the settings of its deployments; no secret."""

    components: tuple[Component | Unavailable, ...]
    settings: Mapping[str, str] = field(default_factory=dict)


_ADAPTER = TypeAdapter(Record)


def write(
    config: StackConfig, components: Sequence[Component | Unavailable], settings: Mapping[str, str]
) -> None:
    """Keep what is about to be started."""
    bare = [replace(one, env={}) if isinstance(one, Component) else one for one in components]
    content = _ADAPTER.dump_json(Record(tuple(bare), settings), indent=1).decode()
    write_private(_get_file(config), content)


def read(config: StackConfig) -> Record | None:
    """What was started and not stopped since; None where nothing was, or where the record can't be read."""
    try:
        return _ADAPTER.validate_json(_get_file(config).read_bytes())
    except (OSError, ValidationError):
        return None


def forget(config: StackConfig) -> None:
    """Nothing runs any more."""
    _get_file(config).unlink(missing_ok=True)


def _get_file(config: StackConfig) -> Path:
    return config.run_dir / "started.json"
