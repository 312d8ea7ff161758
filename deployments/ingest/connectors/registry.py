"""Which connectors there are: adding one is a module and a line here.

Each module holds `Options` (what a declaration may say) and `build_connector`; it is imported when a source needs it.
"""

import importlib
from types import ModuleType
from typing import Any, Final

from deployments.ingest.connectors.options import SourceOptions
from deployments.ingest.connectors.port import Connector, Environment
from deployments.ingest.model import Source

_HERE: Final = "deployments.ingest.connectors"
CONNECTORS: Final = {
    "folder": f"{_HERE}.folder",
    "git": f"{_HERE}.git",
    "filesystem": f"{_HERE}.filesystem",
    "website": f"{_HERE}.website",
    "uploads": f"{_HERE}.uploads",
}


def build_connector(source: Source, environment: Environment) -> Connector:
    """The connector of a source; nothing is reached yet. Raises SourceUnavailableError where a secret is missing."""
    module = _load(source.connector)
    options = module.Options.model_validate(dict(source.options))
    connector: Connector = module.build_connector(source.name, options, environment)
    return connector


def list_keys(kind: str) -> list[str]:
    """What a declaration of this kind may say beside name and connector."""
    return list(_load(kind).Options.model_fields)


def check_options(kind: str, options: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The options as a Source keeps them. Raises pydantic's ValidationError."""
    checked: SourceOptions = _load(kind).Options.model_validate(options)
    return tuple(sorted(checked.model_dump(exclude_unset=True, mode="json").items()))


def _load(kind: str) -> ModuleType:
    return importlib.import_module(CONNECTORS[kind])
