"""The environment that has torch: whether it is there, and whether the server itself has to run in it."""

from pathlib import Path
from typing import Final

UNFINISHED: Final = ".installing"
"""A file of this name is in an environment while its packages are being installed (by `stack/bootstrap.sh`)."""


class TorchMissingError(RuntimeError):
    """An engine needs torch and there is none; the message says what to do."""


def explain_gap(python: Path) -> str | None:
    """Why nothing can run under this interpreter yet, in words; None where it can."""
    if (python.parent.parent / UNFINISHED).exists():
        return f"the environment of {python} is not installed completely: the end of `make up` sees to that"
    if not python.is_file():
        return f"there is no {python}: `make up` installs it last, after the first post"
    return None


def find_other_interpreter(*, has_torch: bool, current: Path, trainer: Path) -> Path | None:
    """The interpreter to go on with where an engine needs torch; None: this one has it.

    Raises TorchMissingError where there is none with torch.
    """
    if has_torch:
        return None
    gap = explain_gap(trainer)
    if gap:
        raise TorchMissingError(f"torch is needed, and {gap}.")
    if current.absolute() == trainer.absolute():
        raise TorchMissingError(f"torch is needed, and {trainer} has none: install requirements/trainer.txt.")
    return trainer
