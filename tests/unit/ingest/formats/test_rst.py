import pytest

from deployments.ingest.formats.rst import RstExtractor
from deployments.ingest.model import Extraction
from tests.unit.ingest.formats.samples import RST


def extract(text: str) -> Extraction:
    return RstExtractor().extract(text.encode(), "a.rst")


def test_headings_code_and_tables_are_those_of_markdown() -> None:
    text = extract(RST).text
    assert "# Assets\n\n## Events\n\n" in text
    assert '```\nprint("**no emphasis**")\n```' in text
    assert "| name | does |\n| --- | --- |\n| up | starts |" in text


def test_nothing_is_included_and_what_is_not_understood_is_kept_as_it_stands() -> None:
    text = extract(RST).text
    assert "root:" not in text and "<script" not in text
    assert "Use *assets* instead of :class:`Dataset`." in text
    assert "It is now ." in text


def test_an_unknown_role_and_a_broken_table_lose_no_words() -> None:
    text = extract("See :class:`Dataset` and |that|.\n\n=== ==\none two three\n=== ==\n\nThe `end.\n").text
    assert all(word in text for word in ("Dataset", "that", "two three", "end."))


def test_a_text_without_a_heading_is_called_by_its_first_line() -> None:
    assert extract("Some words.\n\nMore.").title == "Some words."


@pytest.mark.parametrize(
    "text", ["a " + "*" * 20_000, "a " + "`" * 20_000, "a_ " * 20_000, "|a" * 20_000, "- " * 2_000 + "a"]
)
def test_markup_made_to_be_hard_is_plain_text(text: str) -> None:
    found = extract(text)
    assert "a" in found.text and not found.markdown
    assert found.notes == ("read as plain text: its markup could not be",)
