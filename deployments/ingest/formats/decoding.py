"""The text of bytes in any encoding, and what a reader should know of how it was read.

It knows no format.
"""

import codecs
import re
from typing import Final

from deployments.ingest.formats.port import UnreadableError

# The longer mark first: UTF-32's begins with UTF-16's.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BEGINNINGS: Final = (
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old or encrypted Office document"),
    (b"{\\rtf", "a rich-text document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89PNG", "a picture"),
    (b"GIF8", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"\x7fELF", "a program"),
)
_AS_WESTERN: Final = "ghostwriter.as_western"
_MIXED: Final = "utf-8-mixed"
_NAMES: Final = {
    _MIXED: "UTF-8, but for some letters",
    "cp932": "Shift-JIS",
    "shift_jis": "Shift-JIS",
    "euc_jis_2004": "EUC-JP",
    "cp1252": "Windows-1252",
    "latin_1": "ISO-8859-1",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32-le": "UTF-32",
    "utf-32-be": "UTF-32",
}
_CONTROLS: Final = re.compile(r"[\x00-\x07\x0e-\x1a\x1f]")
_FEW: Final = 3  # controls that any text may hold, or one in so many characters:
_RARE: Final = 50
_DECLARED: Final = re.compile(rb"(?:charset|encoding|coding)[ \t]*[=:][ \t]*[\"']?([A-Za-z0-9_.:-]{2,40})")
_ENOUGH: Final = 20  # bytes beyond ASCII that tell Chinese or Japanese apart
_LOOKED_AT: Final = 100_000  # bytes and characters from which an encoding is guessed, and binaries are known


def decode_text(content: bytes) -> tuple[str, tuple[str, ...]]:
    """The text, and notes on how it was read. Raises UnreadableError for what is empty, binary or in no encoding."""
    if not content:
        raise UnreadableError("it is empty")
    for beginning, kind in _BEGINNINGS:
        if content.startswith(beginning):
            raise UnreadableError(
                f"its first bytes are those of {kind}, not of text: give it the suffix of its kind"
            )
    encoding, text = _decode(content)
    looked_at = text[:_LOOKED_AT]
    if len(_CONTROLS.findall(looked_at)) > max(_FEW, len(looked_at) // _RARE):
        raise UnreadableError("it is binary, not text: save it as text, or remove it from the source")
    notes = () if encoding == "utf-8" else (f"read as {_name(encoding)}",)
    return text, (*notes, "NUL characters were left out") if "\0" in text else notes


def _decode(content: bytes) -> tuple[str, str]:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding, content[len(mark) :].decode(encoding, errors="replace")
    # What is declared goes before UTF-8 only where the bytes would be both: ISO-2022 is made of ASCII.
    declared = _find_declared(content)
    if (
        b"\x1b" in content
        and declared.startswith("iso2022")
        and (text := _try(content, declared)) is not None
    ):
        return declared, text
    if (wide := _find_wide(content)) and (text := _try(content, wide)) is not None:
        return wide, text
    for encoding in filter(None, ("utf-8", declared)):
        if (text := _try(content, encoding)) is not None:
            return encoding, text
    return _guess(content)


def _guess(content: bytes) -> tuple[str, str]:
    from charset_normalizer import from_bytes

    mended = content.decode("utf-8", errors=_AS_WESTERN)
    bad = content.decode("utf-8", errors="replace").count("\ufffd")
    if len(content) - len(mended) > 2 * bad:  # more bytes continue a letter of UTF-8 than are none
        return _MIXED, mended
    # A text of many megabytes in one encoding: its first bytes beyond ASCII say which.
    first = next(re.finditer(rb"[\x80-\xff]", content)).start()
    begin = max(0, first - _LOOKED_AT // 2)
    sample = content[begin : begin + _LOOKED_AT]
    best = from_bytes(sample).best()
    if best is None:
        raise UnreadableError("its encoding can't be told: save it as UTF-8")
    foreign = len(re.findall(rb"[\x80-\xff]", sample))
    # A name or two in an English text fit many encodings; one of the West is the likeliest by far.
    few = foreign * _RARE < len(sample) and (foreign < _ENOUGH or not best.multi_byte_usage)
    encoding = "cp1252" if few else best.encoding
    return encoding, content.decode(encoding, errors="replace")


def _read_as_western(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("cp1252", errors="replace"), error.end


codecs.register_error(_AS_WESTERN, _read_as_western)


def _try(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except (
        UnicodeError,
        LookupError,
    ):  # a LookupError for a codec that makes no text of bytes, such as `zip`
        return None


def _find_declared(content: bytes) -> str:
    """The encoding that the first lines name, as a web page or an editor's mark does; "" where there is none."""
    found = _DECLARED.search(content[:2000])
    if found is None:
        return ""
    try:
        codec = codecs.lookup(found[1].decode("ascii"))
    except LookupError:
        return ""
    no_text = codec.name.startswith("utf") or codec.name in {"unicode_escape", "raw_unicode_escape"}
    return "" if no_text else codec.name


def _find_wide(content: bytes) -> str:
    """UTF-16 without a mark: every other byte of Western text is zero."""
    looked_at = content[:_LOOKED_AT]
    half = len(looked_at) // 2
    even, odd = looked_at[::2].count(0), looked_at[1::2].count(0)
    if odd > half * 0.6 and even < half * 0.05:
        return "utf-16-le"
    return "utf-16-be" if even > half * 0.6 and odd < half * 0.05 else ""


def _name(encoding: str) -> str:
    return _NAMES.get(encoding) or encoding.upper().replace("_", "-")
