"""Runs checks where there is no pytest: in the environments that real engines need."""

import traceback
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def find_checks(*modules: ModuleType | Mapping[str, Any]) -> dict[str, Callable[..., object]]:
    """The functions of the modules whose names begin with `check_`, by name."""
    spaces = [module if isinstance(module, Mapping) else vars(module) for module in modules]
    return {name: value for space in spaces for name, value in space.items() if name.startswith("check_")}


def collect_outcomes(checks: Mapping[str, Callable[[], object]]) -> dict[str, str]:
    """What failed, by the name of the check; empty where it passed."""
    outcomes = {}
    for name, check in checks.items():
        try:
            check()
            outcomes[name] = ""
        except Exception:
            outcomes[name] = traceback.format_exc()
    return outcomes
