"""The connector that docs/sources.md adds passes the contract, as it stands there."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deployments.ingest.connectors.registry import CONNECTORS
from tests.connector_contract import ConnectorContract

PAGE = (Path(__file__).parents[4] / "docs/sources.md").read_text(encoding="utf-8")
MODULE, TEST = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)


class TestDocumentedConnector(ConnectorContract):
    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        ((kind, path),) = re.findall(r'^\+    "(\w+)": f"\{_HERE\}\.(\w+)"', PAGE, flags=re.M)
        name = f"deployments.ingest.connectors.{path}"
        module, test = ModuleType(name), ModuleType("documented_test")
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setitem(CONNECTORS, kind, name)
        exec(MODULE, vars(module))
        exec(TEST, vars(test))
        return test.SqlitePlace(tmp_path)


def test_the_lines_of_the_registry_are_those_of_the_page() -> None:
    for kind in CONNECTORS:
        assert f'     "{kind}": f"{{_HERE}}.{CONNECTORS[kind].rpartition(".")[2]}",' in PAGE
