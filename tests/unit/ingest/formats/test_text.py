import codecs

import pytest

from deployments.ingest.formats.port import UnreadableError
from deployments.ingest.formats.text import TextExtractor
from deployments.ingest.model import Extraction

JAPANESE = "これは日本語の文書です。知識ベースは、編集のたびに正しくなければなりません。\n" * 5
GERMAN = "Die Wissensbasis muß nach jeder Änderung stimmen; was fehlt, wird übersprungen.\n" * 5
RUSSIAN = "База знаний должна быть верной после каждой правки, сбоя и нового источника.\n" * 5


def extract(content: bytes) -> Extraction:
    return TextExtractor().extract(content, "a.txt")


def test_utf_8_is_read_without_a_note() -> None:
    assert extract(b"\xef\xbb\xbf" + JAPANESE.encode()) == extract(JAPANESE.encode())
    assert extract(JAPANESE.encode()).notes == ()


@pytest.mark.parametrize(
    ("content", "text", "note"),
    [
        (JAPANESE.encode("shift_jis"), JAPANESE, "read as Shift-JIS"),
        (JAPANESE.encode("euc_jp"), JAPANESE, "read as EUC-JP"),
        (RUSSIAN.encode("koi8_r"), RUSSIAN, "read as KOI8-R"),
        (codecs.BOM_UTF16_LE + GERMAN.encode("utf-16-le"), GERMAN, "read as UTF-16"),
        (codecs.BOM_UTF16_BE + JAPANESE.encode("utf-16-be"), JAPANESE, "read as UTF-16"),
        (codecs.BOM_UTF32_LE + GERMAN.encode("utf-32-le"), GERMAN, "read as UTF-32"),
        (GERMAN.encode("utf-16-le"), GERMAN, "read as UTF-16"),
        (GERMAN.encode("utf-16-be"), GERMAN, "read as UTF-16"),
        (b"-*- coding: iso-2022-jp -*-\n" + JAPANESE.encode("iso2022_jp"), JAPANESE, "read as ISO2022-JP"),
    ],
)
def test_other_encodings_are_read_and_named(content: bytes, text: str, note: str) -> None:
    found = extract(content)
    assert found.text.endswith(text) and found.notes == (note,)


def test_western_text_reads_right_whichever_of_its_encodings_is_named() -> None:
    for encoding in ("latin_1", "cp1252"):
        found = extract(GERMAN.encode(encoding))
        assert found.text == GERMAN and len(found.notes) == 1


@pytest.mark.parametrize("name", ["François Pinard", "Klaus Köpf", "Marc Lühr", "Bjørn Skytte"])
def test_a_few_letters_in_a_long_english_text_are_western(name: str) -> None:
    text = "A line of a changelog, as there are many of them, with words that anybody knows.\n" * 30
    found = extract(f"{text}Thanks to {name}.\n{text}".encode("latin_1"))
    assert f"Thanks to {name}." in found.text and found.notes == ("read as Windows-1252",)


def test_a_text_that_is_utf_8_but_for_some_letters_keeps_the_others() -> None:
    content = "Döffinger, Müller, Brück, Schön and more, ".encode() * 5 + "Rogério".encode("latin_1")
    found = extract(content)
    assert found.text.startswith("Döffinger, Müller") and found.text.endswith("Rogério")
    assert found.notes == ("read as UTF-8, but for some letters",)


def test_the_encoding_of_a_long_text_is_told_by_what_is_not_ascii() -> None:
    found = extract(b"plain words, " * 100_000 + GERMAN.encode("cp1252"))
    assert found.text.endswith(GERMAN)


def test_all_line_ends_are_one() -> None:
    assert extract("one\r\ntwo\rthree\u2028four\x0cfive\n".encode()).text == "one\ntwo\nthree\nfour\nfive\n"


def test_a_few_nul_characters_are_left_out_and_said() -> None:
    found = extract(b"some words before\0 and many more words after it, so that it is text" * 3)
    assert "\0" not in found.text and found.notes == ("NUL characters were left out",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b" \n\t\n", "no text"),
        (b"***\n---", "no text"),
        (b"\x7fELF\x02\x01\x01" + b"\0" * 50, "a program"),
        (b"%PDF-1.7\n1 0 obj", "a PDF"),
        (b"PK\x03\x04rest", "a ZIP archive"),
        (bytes(range(256)) * 20, "encoding can't be told"),
        (b"\x01\x02\x03\x04word" * 100, "binary"),
    ],
)
def test_what_is_no_text_is_refused_in_words(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        extract(content)


def test_a_line_of_ten_megabytes_is_read() -> None:
    assert len(extract(b"x" * 10_000_000).text) == 10_000_000


def test_the_title_is_the_first_line_with_a_word_and_at_most_120_characters() -> None:
    assert extract(b"***\n\n  # one   two\nthree").title == "# one two"
    assert extract(b"x" * 500).title == "x" * 120


@pytest.mark.parametrize(
    "line",
    [
        "Format: https://www.debian.org/doc/copyright-format/1.0/",
        "#!/bin/sh",
        "commit 9f5621a410f18149d4c76b02daa7",
    ],
)
def test_a_first_line_for_machines_is_no_title(line: str) -> None:
    assert extract(f"{line}\nWords\n".encode()).title == ""


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (GERMAN, "de"),
        (RUSSIAN, "ru"),
        (JAPANESE, "ja"),
        ("An event wakes a Dag, which then looks for itself what has changed since. " * 4, "en"),
        ("Ein Wort.", ""),
        ("x = 1\n" * 200, ""),
    ],
)
def test_the_language_is_told_where_there_is_enough_text(text: str, language: str) -> None:
    assert extract(text.encode()).language == language
