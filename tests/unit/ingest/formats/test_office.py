"""Word, presentations and workbooks: what they say, and packages made to do harm."""

import zipfile
from io import BytesIO

import pytest

from deployments.ingest.formats.port import UnreadableError
from deployments.ingest.formats.registry import find_extractor
from deployments.ingest.model import Extraction
from deployments.ingest.splitting import split
from tests.unit.ingest.formats.samples import make_docx, make_pptx, make_xlsx, replace_part

PARTS = {
    "a.docx": (make_docx, "word/document.xml"),
    "a.pptx": (make_pptx, "ppt/slides/slide1.xml"),
    "a.xlsx": (make_xlsx, "xl/worksheets/sheet1.xml"),
}


def extract(name: str, content: bytes) -> Extraction:
    return find_extractor(name, "", content).extract(content, name)


def test_a_word_document_is_read_by_its_styles() -> None:
    text = extract("a.docx", make_docx()).text
    assert "# Events\n\nAn event" in text and "## Who sends them\n\n- tasks\n- people\n" in text
    assert "| name | does |\n| --- | --- |\n| up | starts |" in text


def test_a_slide_is_a_page_with_its_notes_tables_and_groups() -> None:
    found = extract("a.pptx", make_pptx())
    passages = split(found)
    assert [(p.headings, p.page) for p in passages] == [(("Events",), 1), (("Commands",), 2)]
    assert "- from a task" in passages[0].text and "Notes: Say this slowly." in passages[0].text
    assert "| up | starts |" in passages[1].text and "in a group" in passages[1].text


def test_a_sheet_is_a_heading_and_a_table() -> None:
    text = extract("a.xlsx", make_xlsx()).text
    assert text.startswith("## Commands\n\n| name | does | since | share |\n|---|---|---|---|\n")
    assert "| up \\| start | starts all | 2026-11-24 | 0.3 |" in text
    assert "Empty" not in text and text.endswith("## Numbers\n\n| 1 |  | True |\n|---|---|---|")


def test_a_sheet_of_too_many_rows_is_cut_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.ingest.formats.xlsx.MAX_ROWS", 10)
    found = extract("a.xlsx", make_xlsx(rows=50))
    assert found.text.count("starts all") == 9
    assert found.notes == ("the first 10 rows were read, to sheet Commands",)


def test_a_sheet_that_lies_about_its_size_costs_nothing() -> None:
    sheet = (
        b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        b'<dimension ref="A1:XFD1048576"/><sheetData><row r="1"><c r="A1"><v>1</v></c></row>'
        b'<row r="1048576"><c r="XFD1048576"><v>2</v></c></row></sheetData></worksheet>'
    )
    found = extract("a.xlsx", replace_part(make_xlsx(), "xl/worksheets/sheet1.xml", sheet))
    assert "| 1 |" in found.text and len(found.text) < 1_000


@pytest.mark.parametrize("name", PARTS)
def test_entities_are_refused_before_anything_is_resolved(name: str) -> None:
    make, part = PARTS[name]
    for declared in ('<!ENTITY x SYSTEM "file:///etc/passwd">', '<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">'):
        for encoding in ("utf-8", "utf-16"):
            spoilt = (
                f"<?xml version='1.0' encoding='{encoding}'?><!-- -->\n<!DOCTYPE d [{declared}]><d>&x;</d>"
            )
            with pytest.raises(UnreadableError, match="declares entities"):
                extract(name, replace_part(make(), part, spoilt.encode(encoding)))


@pytest.mark.parametrize("name", PARTS)
def test_a_package_that_unpacks_to_too_much_is_refused(name: str) -> None:
    bomb = replace_part(PARTS[name][0](), "docProps/thumbnail.jpeg", b"\0" * 210_000_000)
    assert len(bomb) < 1_000_000
    with pytest.raises(UnreadableError, match="too large unpacked"):
        extract(name, bomb)


def test_a_package_that_lies_about_the_size_of_a_part_is_refused() -> None:
    content = bytearray(replace_part(make_docx(), "word/document.xml", b"<a>" + b" " * 5_000_000 + b"</a>"))
    sizes = (5_000_007).to_bytes(4, "little")
    assert content.count(sizes) == 2
    with pytest.raises(UnreadableError, match="too large unpacked"):
        extract("a.docx", bytes(content).replace(sizes, (1_000).to_bytes(4, "little")))


def test_more_tags_than_a_document_has_are_refused() -> None:
    many = b"<w:p/>" * 1_600_000
    with pytest.raises(UnreadableError, match="tags"):
        extract("a.docx", replace_part(make_docx(), "word/document.xml", b"<d>" + many + b"</d>"))


def test_tags_too_deep_are_refused() -> None:
    deep = b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
    deep += b"<w:p>" * 20_000 + b"</w:p>" * 20_000 + b"</w:body></w:document>"
    with pytest.raises(UnreadableError, match="can't be read as a Word document"):
        extract("a.docx", replace_part(make_docx(), "word/document.xml", deep))


def test_what_is_protected_or_no_office_document_is_refused_in_words() -> None:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as package:
        package.writestr("a.txt", "words")
    for name in PARTS:
        with pytest.raises(UnreadableError, match="without a password"):
            extract(name, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500)
        with pytest.raises(UnreadableError, match="ZIP archive, but not a"):
            extract(name, file.getvalue())
        with pytest.raises(UnreadableError, match="can't be read as a"):
            extract(name, PARTS["a.docx" if name != "a.docx" else "a.xlsx"][0]())
