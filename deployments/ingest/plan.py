"""Decides what a run has to do: the difference between the documents on disk and those in the ledger.

It does no I/O and knows no Airflow.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from deployments.ingest.sources import KnowledgeError, Problem, SourceDocument

BATCH_SIZE = 20  # documents a mapped task, at least where there are so many
BATCH_BYTES = 1_000_000  # of text a mapped task; a document of more is a batch of its own
MAX_BATCHES = (
    100  # a source, by count, and as many by bytes; each costs three starts, and Airflow maps over 1,024
)
NAME_CHARACTERS = 100  # of a file in a label; Airflow keeps 250 of the label


@dataclass(frozen=True)
class Current:
    """A document as the ledger has it."""

    uri: str
    content_hash: str
    chunks: int


@dataclass(frozen=True)
class Plan:
    """What to do; the four groups are disjoint."""

    added: tuple[SourceDocument, ...]
    changed: tuple[SourceDocument, ...]
    unchanged: tuple[str, ...]  # URIs
    removed: tuple[str, ...]  # URIs

    @property
    def to_write(self) -> tuple[SourceDocument, ...]:
        """Documents that need new chunks, by URI."""
        return tuple(sorted((*self.added, *self.changed), key=lambda document: document.uri))

    def summarize(self) -> dict[str, int]:
        """Counts for logs and events."""
        groups = ("added", "changed", "unchanged", "removed")
        return {name: len(getattr(self, name)) for name in groups}


def plan_sync(
    documents: Sequence[SourceDocument],
    problems: Iterable[Problem],
    current: Mapping[str, Current],
    *,
    damaged: Collection[str] = frozenset(),
) -> Plan:
    """The difference by content hash; `damaged` documents lost chunks in the store and are written again.

    A file with a problem keeps its earlier version. Raises KnowledgeError where no document is left at all: an
    unmounted folder must not empty the knowledge base.
    """
    if not documents:
        if current:
            raise KnowledgeError(
                f"The knowledge folder holds no usable document, but the knowledge base has {len(current)}. Nothing "
                "was deleted. Put the files back, or run `ghostwriter knowledge clear` to empty the knowledge base."
            )
        raise KnowledgeError(
            "The knowledge folder holds no usable document: put .md or .txt files into content/knowledge/<source>/."
        )
    unusable = tuple(problem.uri for problem in problems)
    kept = {*(document.uri for document in documents), *unusable}
    # A folder that can't be read keeps what was in it.
    folders = tuple(f"{uri}/" for uri in unusable)
    stale = {
        d.uri
        for d in documents
        if d.uri in current and (d.uri in damaged or current[d.uri].content_hash != d.content_hash)
    }
    return Plan(
        added=tuple(d for d in documents if d.uri not in current),
        changed=tuple(d for d in documents if d.uri in stale),
        unchanged=tuple(d.uri for d in documents if d.uri in current and d.uri not in stale),
        removed=tuple(sorted(uri for uri in current if uri not in kept and not uri.startswith(folders))),
    )


def make_batches(documents: Sequence[SourceDocument]) -> list[dict[str, object]]:
    """Batches for mapped tasks: `label` for people, `number`, and the URIs; no text. They grow with the documents."""
    size = max(BATCH_SIZE, -(-len(documents) // MAX_BATCHES))
    # A batch of full size ends early, so at most two batches come of each share of the bytes.
    most = max(BATCH_BYTES, -(-2 * sum(d.size for d in documents) // MAX_BATCHES))
    parts: list[list[SourceDocument]] = []
    held = 0
    for document in documents:
        if not parts or len(parts[-1]) == size or held + document.size > most:
            parts.append([])
            held = 0
        parts[-1].append(document)
        held += document.size
    return [
        {"number": number, "label": _label(part), "uris": [d.uri for d in part]}
        for number, part in enumerate(parts)
    ]


def _label(part: Sequence[SourceDocument]) -> str:
    first, last = (_shorten(d.uri.rsplit("/", 1)[-1]) for d in (part[0], part[-1]))
    return first if len(part) == 1 else f"{first} … {last} ({len(part)})"


def _shorten(name: str) -> str:
    """At most NAME_CHARACTERS, the end included: it holds the suffix, and the number where there is one."""
    half = NAME_CHARACTERS // 2
    return name if len(name) <= NAME_CHARACTERS else f"{name[: half - 1]}…{name[-half:]}"
