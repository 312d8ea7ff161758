"""Every connector is found by its name, and brings what the registry asks of it."""

from pathlib import Path

import pytest

from deployments.ingest.connectors.options import SourceOptions
from deployments.ingest.connectors.port import Connector, Environment
from deployments.ingest.connectors.registry import CONNECTORS, build_connector, check_options, list_keys
from deployments.ingest.model import Source

EXAMPLES = {
    "folder": {"path": "docs"},
    "git": {"url": "https://example.org/docs.git", "branch": "main"},
    "filesystem": {"url": "s3://bucket/docs", "options": {"endpoint_url": "https://s3.example.org"}},
    "website": {"url": "https://example.org/sitemap.xml"},
    "uploads": {},
}


@pytest.mark.parametrize("kind", CONNECTORS)
def test_a_connector_is_built_from_its_options_without_reaching_anything(kind: str, tmp_path: Path) -> None:
    options = check_options(kind, {**EXAMPLES[kind], "include": ["**/*.md"]})
    assert dict(options) == {**EXAMPLES[kind], "include": ["**/*.md"]} and list(options) == sorted(options)
    environment = Environment(tmp_path, tmp_path, f"file:{tmp_path}/uploads", lambda name: "")
    connector = build_connector(Source("docs", kind, options), environment)
    assert isinstance(connector, Connector)
    connector.close()
    assert set(SourceOptions.model_fields) <= set(list_keys(kind))
    assert list(tmp_path.iterdir()) == []
