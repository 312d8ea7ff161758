import subprocess
import sys

import pytest

from deployments.ingest.formats.port import UnreadableError
from deployments.ingest.formats.registry import FORMATS, find_extractor

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.mark.parametrize(
    ("name", "media_type", "extractor"),
    [
        ("a.md", "", "markdown"),
        ("A.MARKDOWN", "", "markdown"),
        ("a.txt", "", "text"),
        ("a.md", "text/plain; charset=utf-8", "markdown"),
        ("a.md", "application/octet-stream", "markdown"),
        ("README", "", "text"),
        ("changelog.Debian", "", "text"),
        ("apt-2.6", "", "text"),
        ("notes", "text/plain", "text"),
    ],
)
def test_a_format_is_found_by_declared_type_then_suffix(name: str, media_type: str, extractor: str) -> None:
    assert find_extractor(name, media_type, b"words").name == extractor


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.doc", "save it as .docx"),
        ("a.xls", "save it as .xlsx"),
        ("a.tar.gz", "unpack it"),
        ("a.png", "text in pictures"),
        ("a.py", "what is"),
        ("a.json", "what is"),
        ("a.mp4", "what is"),
    ],
)
def test_what_is_not_read_is_refused_with_what_is(name: str, advice: str) -> None:
    with pytest.raises(UnreadableError, match=advice) as refused:
        find_extractor(name, "", b"")
    assert ".md, .markdown, .txt" in str(refused.value)


def test_no_suffix_and_no_type_has_two_formats() -> None:
    names = [name for form in FORMATS for name in (*form.suffixes, *form.media_types)]
    assert len(names) == len(set(names))
    assert all(name == name.lower() for name in names)


def test_reading_markdown_imports_no_other_formats_libraries() -> None:
    code = (
        "import sys\nfrom deployments.ingest.formats.registry import find_extractor\n"
        "find_extractor('a.md', '', b'').extract(b'# Title\\n\\nText.', 'a.md')\n"
        "print(sorted({'pptx', 'openpyxl', 'mammoth', 'bs4', 'docutils', 'pypdfium2', 'lxml'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (shown.stdout.strip(), shown.stderr) == ("[]", "")
