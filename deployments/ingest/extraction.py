"""Opens a document, finds its format, extracts and splits it.

It knows no ledger, no store and no hand-over.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from deployments.ingest.composition import Formats
from deployments.ingest.connectors.port import Connector, DocumentGoneError, DocumentUnreadableError
from deployments.ingest.formats.port import UnreadableError
from deployments.ingest.model import Document, Extraction, Passage, Problem, RawDocument, Reference

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """A document that was read: what it is, its text, its passages."""

    document: Document
    extraction: Extraction
    passages: Sequence[Passage]


def open_document(connector: Connector, reference: Reference) -> RawDocument | Problem | None:
    """The document's bytes; a problem that may mend itself, so it is tried in every run; None for one that is gone.

    Raises SourceUnavailableError.
    """
    try:
        return connector.open_document(reference)
    except DocumentGoneError:
        return None
    except DocumentUnreadableError as error:
        return Problem(reference.uri, str(error))


def read_document(raw: RawDocument, formats: Formats) -> Reading | Problem:
    """The document in passages; or a problem that stays until there are other bytes, whatever the reason."""
    reference = raw.reference
    name = reference.uri.rsplit("/", 1)[-1]
    media_type = raw.media_type or reference.media_type
    try:
        extractor = formats.find_extractor(name, media_type, raw.content)
        recipe = formats.describe_recipe(extractor)
        extraction = extractor.extract(raw.content, name)
        passages = formats.split(extraction)
    except UnreadableError as error:
        return Problem(reference.uri, str(error), fingerprint=reference.fingerprint)
    except Exception as error:  # a library that fails on odd bytes must not hold up the rest
        log.exception("%s can't be read", reference.uri)
        message = f"reading it failed ({type(error).__name__}): the log of this run says where"
        return Problem(reference.uri, message, fingerprint=reference.fingerprint)
    title = " ".join(extraction.title.split()) or _name_without_suffix(name)
    texts = (title, extraction.text, extraction.author, *(t for p in passages for t in (p.text, *p.headings)))
    if wrong := _find_fault(texts, passages):
        return Problem(reference.uri, wrong, fingerprint=reference.fingerprint)
    document = Document(
        uri=reference.uri,
        source=reference.source,
        title=title,
        content_hash=raw.content_hash,
        size=len(raw.content),
        recipe=recipe,
        chunks=len(passages),
        # As it was listed: what changed between listing and opening shows another one in the next listing.
        fingerprint=reference.fingerprint,
        media_type=media_type[:200],
        language=extraction.language[:10],
        author=extraction.author,
        dated=extraction.dated,
        place=reference.place or reference.key,
        notes=extraction.notes,
    )
    return Reading(document, extraction, passages)


def _name_without_suffix(name: str) -> str:
    return name.rpartition(".")[0] or name


def _find_fault(texts: Sequence[str], passages: Sequence[Passage]) -> str:
    """What neither ledger nor store takes, though extractors should not give it."""
    if not any(passage.text.strip() for passage in passages):
        return "no text was found in it"
    if any("\0" in text for text in texts):
        return "its text holds NUL characters"
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        return "its text holds half characters, which no encoding has"
    return ""
