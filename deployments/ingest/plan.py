"""The rules of a plan: how documents are put into batches, and which removals wait for a person.

It does no I/O and knows no Airflow.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from deployments.ingest.model import Problem
from shared.contracts import document_uri

BATCH_BYTES = 256_000  # of documents a mapped task; one that begins in it is read whole
MAX_BATCHES = 64  # a source; they grow with the documents
MAX_MAPPED = 1_024  # batches a connector in one run: Airflow maps over no more
LEAST_BYTES = 1_000  # that a document counts for: opening one takes its time, too
UNKNOWN_BYTES = 8_000  # that a document counts for whose source doesn't know
NAME_CHARACTERS = 60  # of a file in a label; Airflow keeps 250 of the label


class Sized(Protocol):
    """What a batch needs to know of a document."""

    @property
    def uri(self) -> str:
        """Its URI."""

    @property
    def size(self) -> int | None:
        """Bytes."""


SizedDocument = TypeVar("SizedDocument", bound=Sized)


def weigh(size: int | None) -> int:
    """Bytes that a document counts for in a batch."""
    return max(LEAST_BYTES, UNKNOWN_BYTES if size is None else size)


def limit_batch(total: int, most: int = MAX_BATCHES) -> int:
    """Bytes a batch where all documents have `total` together, so that there are at most `most` batches."""
    return max(BATCH_BYTES, -(-total // max(1, most)))


def make_batches(documents: Iterable[SizedDocument], limit: int) -> Iterator[list[SizedDocument]]:
    """Batches in the order of the documents, each beginning in another portion of `limit` bytes."""
    part: list[SizedDocument] = []
    portion = begun = 0
    for document in documents:
        if part and begun // limit != portion:
            yield part
            part = []
        if not part:
            portion = begun // limit
        part.append(document)
        begun += weigh(document.size)
    if part:
        yield part


def label_batch(source: str, part: Sequence[Sized]) -> str:
    """How people tell a batch from another: `guides: assets.md … triggers.md (12)`; at most 250 characters."""
    first, last = (_shorten(document.uri.rsplit("/", 1)[-1]) for document in (part[0], part[-1]))
    documents = first if len(part) == 1 else f"{first} … {last} ({len(part)})"
    return f"{_shorten(source)}: {documents}"


def _shorten(name: str) -> str:
    """At most NAME_CHARACTERS, the end included: it holds the suffix, and the number where there is one."""
    half = NAME_CHARACTERS // 2
    return name if len(name) <= NAME_CHARACTERS else f"{name[: half - 1]}…{name[-half:]}"


@dataclass
class Loss:
    """Documents of one source that are in the knowledge base and no longer in the source."""

    had: int  # documents of the source in the knowledge base
    gone: int = 0
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def add(self, uri: str, content_hash: str) -> None:
        """One more that is gone; they come in the order of their URIs."""
        self.gone += 1
        self._digest.update(f"{uri} {content_hash}\n".encode())

    @property
    def digest(self) -> str:
        """Stands for those very documents and contents: a later loss has another one."""
        return self._digest.hexdigest()


def withhold_removals(
    losses: Mapping[str, Loss], total: int, accepted: Collection[str], share: float
) -> dict[str, Problem]:
    """The sources whose removals wait for a person, each with the problem that says so.

    Where more than `share` of a source's documents, or of all `total`, would go at once, it looks like a lost folder:
    nothing of that source (or nothing at all) goes. `accepted` holds digests of removals that a person agreed to.
    """
    too_many = sum(loss.gone for loss in losses.values()) > share * total
    return {
        source: _describe_removal(source, loss)
        for source, loss in losses.items()
        if loss.gone and loss.digest not in accepted and (too_many or loss.gone > share * loss.had)
    }


def _describe_removal(source: str, loss: Loss) -> Problem:
    verb, pronoun = ("is", "it stays") if loss.gone == 1 else ("are", "they stay")
    message = (
        f"{loss.gone} of {loss.had} documents of `{source}` {verb} gone; {pronoun} in the knowledge base until "
        "`ghostwriter knowledge sync --accept-removals`"
    )
    return Problem(name_source(source), message, loss.digest)


def name_source(source: str) -> str:
    """The URI of a source as a whole."""
    return document_uri(source, "").removesuffix("/")


def name_lost(problems: Iterable[Problem], lost: Iterable[str]) -> list[Problem]:
    """The problems, and what else is wrong with documents that the store `lost` while they can't be read."""
    advice = "the store lost the earlier version that was kept: posts can't cite it until a run can read the document"
    named = {problem.uri: problem for problem in problems}
    for uri in sorted(set(lost)):
        known = named.get(uri, Problem(uri, ""))
        message = "; ".join(filter(None, (known.message, advice)))
        named[uri] = Problem(uri, message, known.removal, known.fingerprint)
    return list(named.values())
