"""E-mail: subject, sender, date and text; what is attached is named, not read."""

import email
import email.policy
from collections.abc import Iterable
from datetime import date
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parseaddr, parsedate_to_datetime
from typing import Any, Final

from deployments.ingest.formats.decoding import decode_text
from deployments.ingest.formats.extraction import build_extraction, has_word, refuse_damaged
from deployments.ingest.formats.html import convert_to_markdown, find_content, parse_html
from deployments.ingest.formats.port import Extractor, UnreadableError
from deployments.ingest.model import Extraction

MAX_NESTED: Final = 200  # each line is compared with the ends of all parts around it
_HEADER_CHARACTERS: Final = 2_000  # the standard library takes quadratic time for some
_NAMED: Final = 50


class EmailExtractor(Extractor):
    """The text part, else the HTML part as Markdown. The subject is the title, the sender the author."""

    name = "eml"
    version = 1

    def extract(self, content: bytes, name: str) -> Extraction:
        """See `Extractor`."""
        if not content:
            raise UnreadableError("it is empty")
        if content.lower().count(b"multipart/") > MAX_NESTED:
            raise UnreadableError(f"it has more than {MAX_NESTED} parts of parts: it is no e-mail")
        with refuse_damaged("an e-mail"):
            message = email.message_from_bytes(content, _class=_BoundedMessage, policy=email.policy.compat32)
            title, sender = _read_header(message, "Subject"), _read_header(message, "From")
            if not (title or sender):
                raise UnreadableError("it has neither subject nor sender: it is no e-mail")
            text, markdown, notes = _read_text(message)
        shown, address = _split_sender(sender)
        return build_extraction(
            # A mail without a text still says what it is about.
            text if has_word(text) else title,
            markdown=markdown,
            title=title,
            author=shown or address,
            dated=_read_date(message),
            notes=notes,
        )


class _BoundedMessage(Message):
    def set_raw(self, name: str, value: Any) -> None:
        super().set_raw(name, value[:_HEADER_CHARACTERS])  # the parser's way in


def _read_text(message: Message) -> tuple[str, bool, tuple[str, ...]]:
    """The text, whether it is Markdown, and notes on it."""
    plain: Message | None = None
    rich: Message | None = None
    attached: list[str] = []
    for part in _walk(message):
        if (name := part.get_filename()) or part.get_content_disposition() == "attachment":
            attached.append(_decode_header(name or part.get_content_type()))
        elif part.get_content_type() == "text/plain":
            plain = plain or part
        elif part.get_content_type() == "text/html":
            rich = rich or part
    text, markdown = "", False
    notes: tuple[str, ...] = ()
    if plain is not None:
        text, notes = _decode_part(plain)
    if rich is not None and not has_word(text):
        text, notes = _decode_part(rich)
        text, markdown = convert_to_markdown(find_content(parse_html(text))), True
    if attached:
        named = ", ".join(" ".join(name.split())[:200] for name in attached[:_NAMED])
        text = f"{text.rstrip()}\n\nAttached: {named}{' …' if len(attached) > _NAMED else ''}"
    return text, markdown, notes


def _walk(message: Message) -> Iterable[Message]:
    """Its parts, but not those of a mail that is attached to it."""
    waiting = [message]
    while waiting:
        part = waiting.pop()
        if part.get_content_maintype() == "multipart" and isinstance(payload := part.get_payload(), list):
            waiting += [child for child in reversed(payload) if isinstance(child, Message)]
        else:
            yield part


def _decode_part(part: Message) -> tuple[str, tuple[str, ...]]:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes) or not payload.strip():
        return "", ()
    try:
        return payload.decode(part.get_content_charset("utf-8")), ()
    except (UnicodeError, LookupError):
        return decode_text(payload)


def _read_header(message: Message, name: str) -> str:
    return _decode_header(str(message.get(name, "")))


def _decode_header(value: str) -> str:
    try:
        return " ".join(str(make_header(decode_header(value))).split())
    except (UnicodeError, LookupError, ValueError):
        return " ".join(value.split())


def _split_sender(sender: str) -> tuple[str, str]:
    try:
        return parseaddr(sender)
    except RecursionError:  # of a thousand brackets
        return "", ""


def _read_date(message: Message) -> date | None:
    try:
        return parsedate_to_datetime(str(message.get("Date", ""))).date()
    except (ValueError, TypeError, OverflowError):
        return None
