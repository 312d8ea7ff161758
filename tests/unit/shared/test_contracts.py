"""What deployments that never meet derive from the same names: a change here parts them from what is stored."""

import pytest

from shared.contracts import (
    chunk_id,
    document_source,
    document_uri,
    is_source_name,
)

URI = "knowledge://guides/deep/assets.md"


def test_a_document_is_named_by_its_source_and_path() -> None:
    assert document_uri("guides", "deep/assets.md") == URI
    assert document_source(URI) == document_source("knowledge://guides") == "guides"
    assert document_source("knowledge://guides/a://b/c") == "guides"


def test_a_chunk_keeps_its_id_from_version_to_version() -> None:
    """Old posts cite it, and what a store holds is found by it alone."""
    assert chunk_id(URI, "ab12", 0) == "e23521a6-d1c8-5a6a-8b25-539799005285"
    others = [chunk_id(URI, "ab12", 1), chunk_id(URI, "ab13", 0), chunk_id(f"{URI}x", "ab12", 0)]
    assert len({chunk_id(URI, "ab12", 0), *others}) == 4


@pytest.mark.parametrize("name", ["guides", "A-z_09", "g", "x" * 100, "Plan", "plan"])
def test_names_that_a_source_may_have(name: str) -> None:
    assert is_source_name(name) is True


@pytest.mark.parametrize("name", ["", "x" * 101, "a b", "a/b", "a.b", "ä", "..", "guides\n", "{x}"])
def test_names_that_no_source_may_have(name: str) -> None:
    assert is_source_name(name) is False
