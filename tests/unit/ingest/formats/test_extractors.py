"""What holds for every format, whatever the bytes are."""

import hashlib
import random
from contextlib import suppress
from datetime import date

import pytest

from deployments.ingest.formats.extraction import AUTHOR_CHARACTERS, TITLE_CHARACTERS
from deployments.ingest.formats.port import UnreadableError
from deployments.ingest.formats.registry import FORMATS, find_extractor
from deployments.ingest.model import Extraction
from deployments.ingest.recipe import describe_extractor
from deployments.ingest.splitting import CHUNK_CHARACTERS, split
from tests.unit.ingest.formats.samples import MARKDOWN, SAMPLES

# Of the sample's text. When one changes, the extractor's version must: documents are read again by it. A new version of
# a library is a reason, too.
TEXTS = {
    "markdown-1": "eebc4760b2026f89",
    "text-1": "ee68e192ebf237dd",
    "html-1": "c75ac25685c875e5",
    "pdf-1": "86943d4d6f212743",
    "docx-1": "19684b6a95e0169f",
    "pptx-1": "ec966f60d4c18d23",
    "xlsx-1": "82d9d03e1bcc8eab",
    "csv-1": "c0b59d995f34997a",
    "rst-1": "b7d526ab2c2f7342",
    "ipynb-1": "21e309ef698d4d5a",
    "eml-1": "f3f858d8529a766c",
}
DATED = {"a.md", "a.html", "a.pdf", "a.docx", "a.pptx", "a.xlsx", "a.rst", "a.eml"}
TITLED = DATED | {"a.txt", "a.ipynb"}


def extract(name: str, content: bytes) -> Extraction:
    return find_extractor(name, "", content).extract(content, name)


def check_contract(extraction: Extraction) -> None:
    text = extraction.text
    assert any(map(str.isalnum, text)) and "\0" not in text and len(text.splitlines()) <= text.count("\n") + 1
    assert text.encode().decode() == text
    assert len(extraction.title) <= TITLE_CHARACTERS and extraction.title == " ".join(
        extraction.title.split()
    )
    assert len(extraction.author) <= AUTHOR_CHARACTERS and "\n" not in extraction.author
    assert extraction.language == "" or (len(extraction.language) == 2 and extraction.language.islower())
    assert list(extraction.pages) == sorted(set(extraction.pages))
    assert not extraction.pages or (extraction.pages[0] == 0 and extraction.pages[-1] <= len(text))
    passages = split(extraction)
    assert passages and passages == split(extraction)
    for passage in passages:
        assert passage.text == text[passage.start : passage.end] and len(passage.text) <= CHUNK_CHARACTERS
        assert any(map(str.isalnum, passage.text))
        assert (passage.page is None) == (not extraction.pages)


def test_every_format_has_a_sample() -> None:
    assert {form.suffixes[0] for form in FORMATS} == {f".{name.split('.')[1]}" for name in SAMPLES}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_document_is_read_the_same_each_time(name: str) -> None:
    content = SAMPLES[name]()
    found = extract(name, content)
    check_contract(found)
    assert found == extract(f"other{name}", content)
    assert "event wakes a Dag" in found.text or name in {"a.xlsx", "a.csv"}
    assert ("Assets" in found.title) == (name in TITLED)
    if name in DATED:
        assert (found.author, found.dated) == ("Ada Lovelace", date(2026, 11, 24))


@pytest.mark.parametrize("name", SAMPLES)
def test_the_same_bytes_give_the_same_text_as_long_as_the_version_is_the_same(name: str) -> None:
    content = SAMPLES[name]()
    found = extract(name, content)
    digest = hashlib.sha256(repr((found.text, found.markdown, found.title)).encode()).hexdigest()[:16]
    assert TEXTS.get(describe_extractor(find_extractor(name, "", content))) == digest


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_cut_off_or_spoilt_is_read_or_refused_in_words(name: str) -> None:
    content = SAMPLES[name]()
    dice = random.Random(name)
    spoilt = [content[: dice.randrange(len(content))] for _ in range(10)]
    for _ in range(30):
        changed = bytearray(content)
        for _ in range(dice.choice([1, 5, 50])):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        spoilt.append(bytes(changed))
    for bad in spoilt:
        with suppress(UnreadableError):
            check_contract(extract(name, bad))


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize(
    "content",
    [b"", b" \n", b"\0" * 100, b"\x7fELF" + bytes(range(256)) * 50, b"%PDF-1.7\n%%EOF", b"PK\x03\x04junk"],
)
def test_what_holds_nothing_or_is_something_else_is_refused(name: str, content: bytes) -> None:
    with pytest.raises(UnreadableError):
        extract(name, content)


@pytest.mark.parametrize("name", ["a.md", "a.txt", "a.html", "a.csv", "a.rst"])
@pytest.mark.parametrize("encoding", ["utf-16", "shift_jis"])
def test_what_is_text_is_read_in_any_encoding(name: str, encoding: str) -> None:
    japanese = "知識ベースは、編集のたびに正しくなければなりません。これは日本語の文書です。\n"
    found = extract(name, (japanese * 5).encode(encoding))
    check_contract(found)
    assert japanese.strip() in found.text and found.language == "ja"
    assert found.notes == (("read as UTF-16",) if encoding == "utf-16" else ("read as Shift-JIS",))


@pytest.mark.parametrize("name", ["a.md", "a.txt", "a.html", "a.rst"])
def test_mixed_line_ends_are_one(name: str) -> None:
    found = extract(name, b"One line\r\nand one\rand one\nand\x0cthe last.\r\n")
    check_contract(found)
    assert "\r" not in found.text


@pytest.mark.parametrize("name", ["a.md", "a.txt", "a.html", "a.csv"])
def test_a_line_of_ten_megabytes_is_read(name: str) -> None:
    found = extract(name, b"words " * 1_700_000)
    assert len(found.text) > 10_000_000


@pytest.mark.parametrize("name", ["a.md", "a.txt", "a.html"])
def test_more_text_than_is_kept_is_refused(name: str) -> None:
    with pytest.raises(UnreadableError, match="characters"):
        extract(name, b"words " * 3_400_000)


def test_the_split_passages_of_a_document_name_its_headings() -> None:
    assert [p.headings for p in split(extract("a.md", MARKDOWN.encode()))] == [("Events",)]
