"""What a component of the stack is: one declaration that the driver can start, probe and stop.

It knows no component in particular, and not how processes are run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class HttpProbe:
    """Ready when the URL answers 200; with `field`, when that path in its JSON also `equals` the value."""

    url: str
    field: str = ""
    equals: str = "healthy"


@dataclass(frozen=True)
class CommandProbe:
    """Ready when the command ends with 0 within five seconds."""

    command: tuple[str, ...]


@dataclass(frozen=True)
class HeartbeatProbe:
    """Ready when the file was touched within `max_age` seconds."""

    path: Path
    max_age: float = 15.0


Probe = HttpProbe | CommandProbe | HeartbeatProbe


@dataclass(frozen=True)
class Component:
    """One process, or one step that runs once and ends with 0 (`one_shot`)."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    """Components that must be ready before this one starts."""
    uses: tuple[str, ...] = ()
    """Components it works with but starts without: brought up along with it, side by side."""
    probe: Probe | None = None
    ports: Mapping[str, int] = field(default_factory=dict)
    """Name of the setting -> port it listens on."""
    one_shot: bool = False
    optional: bool = False
    """The stack is up without it; its failure is reported and nothing more."""
    stamp: str = ""
    """For a one-shot: it is skipped while the last success bore this stamp."""
    database: str = ""
    """For a one-shot with a stamp: the database it works on; for another of that name the stamp is worth nothing."""
    start_seconds: float = 120.0
    stop_seconds: int = 10
    stop_signal: str = "TERM"
    group: str = ""
    """The deployment it belongs to, as in `make up D=ingest`."""
    url: str = ""
    user: str = ""
    password_file: Path | None = None
    api_key_file: Path | None = None
    hint: str = ""
    """What to do when it does not start, beyond reading its log."""


@dataclass(frozen=True)
class Unavailable:
    """A component that cannot be had on this machine, and why; the stack runs without it."""

    name: str
    reason: str
    url: str = ""
    external: bool = False
    """True where someone else runs it: then `url` is set and the reason says so."""


def select(
    components: tuple[Component, ...], wanted: frozenset[str], with_used: bool = True
) -> tuple[Component, ...]:
    """The components named or in a deployment named in `wanted`, and all that they need (and use), in order."""
    by_name = {component.name: component for component in components}
    known = set(by_name) | {component.group for component in components if component.group}
    unknown = wanted - known
    if unknown:
        names, choices = ", ".join(sorted(unknown)), ", ".join(sorted(known))
        raise ValueError(f"no component or deployment called {names}; there are: {choices}")
    todo = [c.name for c in components if c.name in wanted or (c.group and c.group in wanted)]
    chosen: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in chosen:
            chosen.add(name)
            component = by_name[name]
            below = (*component.needs, *component.uses) if with_used else component.needs
            todo += [other for other in below if other in by_name]
    return tuple(component for component in components if component.name in chosen)
