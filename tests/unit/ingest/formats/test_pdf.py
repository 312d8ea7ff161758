import pytest

from deployments.ingest.formats import pdf
from deployments.ingest.formats.pdf import PdfExtractor
from deployments.ingest.formats.port import UnreadableError
from deployments.ingest.splitting import split
from tests.unit.ingest.formats.samples import PARAGRAPH, make_pdf


def test_passages_know_their_page() -> None:
    found = PdfExtractor().extract(make_pdf(3, text=PARAGRAPH * 8), "a.pdf")
    assert [
        found.text[start:].startswith(f"Page {number + 1}.") for number, start in enumerate(found.pages)
    ] == [True] * 3
    shown = {passage.page for passage in split(found)}
    assert shown == {1, 2, 3}
    for passage in split(found):
        if passage.text.startswith("Page "):
            assert passage.text.startswith(f"Page {passage.page}.")


def test_what_needs_a_password_is_refused_and_what_needs_none_to_read_is_not() -> None:
    with pytest.raises(UnreadableError, match="protected by a password"):
        PdfExtractor().extract(make_pdf(password="secret"), "a.pdf")


def test_a_scan_and_a_broken_file_are_refused_in_words() -> None:
    with pytest.raises(UnreadableError, match="OCR"):
        PdfExtractor().extract(make_pdf(text=""), "a.pdf")
    with pytest.raises(UnreadableError, match="can't be read as a PDF"):
        PdfExtractor().extract(make_pdf()[:200], "a.pdf")


def test_more_pages_than_are_read_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "MAX_PAGES", 2)
    with pytest.raises(UnreadableError, match="3 pages, more than 2"):
        PdfExtractor().extract(make_pdf(3), "a.pdf")
