import pytest

from deployments.ingest.formats.eml import EmailExtractor
from deployments.ingest.formats.port import UnreadableError
from deployments.ingest.model import Extraction
from tests.unit.ingest.formats.samples import PARAGRAPH, make_eml


def extract(content: bytes) -> Extraction:
    return EmailExtractor().extract(content, "a.eml")


def test_a_mail_is_its_text_and_what_is_attached_is_named() -> None:
    found = extract(make_eml(html="<p>not this</p>"))
    assert found.title == "Assets: was fehlt, für alle" and not found.markdown
    assert found.text == f"{PARAGRAPH}\n\nAttached: figures.pdf"


def test_a_mail_of_html_alone_is_markdown() -> None:
    found = extract(make_eml(plain="", html=f"<h1>News</h1><p>{PARAGRAPH}</p>"))
    assert found.markdown and found.text.startswith(f"# News\n\n{PARAGRAPH}\n")


def test_the_text_is_in_the_encoding_that_its_part_names_or_in_another() -> None:
    assert "übersprungen" in extract(make_eml("Was fehlt, wird übersprungen.", charset="iso-8859-1")).text
    wrong = (
        b"Subject: a\nContent-Type: text/plain; charset=nonsense\n\n"
        + "Häuser übersprungen für alle".encode("cp1252")
    )
    assert "Häuser" in extract(wrong).text


def test_a_mail_without_a_text_is_its_subject() -> None:
    assert extract(b"Subject: Only this\nFrom: a@b.example\n\n").text == "Only this"


@pytest.mark.parametrize("date", [b"", b"Date: nonsense\n", b"Date: 99 Nov 99999 99:99\n"])
def test_a_wrong_date_is_none(date: bytes) -> None:
    assert extract(b"Subject: a\n" + date + b"\nText.").dated is None


def test_what_is_no_mail_is_refused() -> None:
    for content in (b"Just words.\n\nAnd more.", b"Key: value\n\nwords"):
        with pytest.raises(UnreadableError, match="no e-mail"):
            extract(content)
    with pytest.raises(UnreadableError, match="parts of parts"):
        extract(b"Subject: a\n" + b"Content-Type: multipart/mixed; boundary=a\n\n--a\n" * 300)


@pytest.mark.parametrize(
    "header",
    [
        b'Content-Type: text/plain; a="' + b";" * 500_000,
        b"Subject: " + b"=?utf-8?q?a?= " * 100_000,
        b"From: " + b"(" * 500_000,
    ],
)
def test_headers_made_to_be_hard_are_cut(header: bytes) -> None:
    assert "Text." in extract(b"Subject: a\nX: b\n" + header + b"\n\nText.").text
