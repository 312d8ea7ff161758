"""Decides what a run has to do: the difference between the documents on disk and those in the ledger.

It does no I/O and knows no Airflow.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from deployments.ingest.sources import KnowledgeError, Problem, SourceDocument
from shared.contracts import document_source, document_uri

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
class Removals:
    """Documents that are in the knowledge base and no longer in the sources: those that go, and why others stay."""

    uris: tuple[str, ...]
    withheld: tuple[Problem, ...]  # one a source, each with the digest that accepts it


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
    accepted: Collection[str] = frozenset(),
    arms: Collection[str] | None = None,
) -> Plan:
    """The difference by content hash; `damaged` documents lost chunks in the store and are written again.

    A file with a problem keeps its earlier version, and so does what `plan_removals` withholds. Of sources that have
    no arm in this run nothing is written (None: all have one). Raises KnowledgeError where no document is left at
    all, unless just that is accepted: an unmounted folder must not empty the knowledge base.
    """
    removed = plan_removals(documents, problems, current, accepted).uris
    if not documents and not removed:
        if current:
            raise KnowledgeError(
                f"The knowledge folder holds no usable document, but the knowledge base has {len(current)}. Nothing "
                "was deleted. Put the files back, or run `ghostwriter knowledge clear` to empty the knowledge base."
            )
        raise KnowledgeError(
            "The knowledge folder holds no usable document: put .md or .txt files into content/knowledge/<source>/."
        )
    within_reach = [d for d in documents if arms is None or d.source in arms]
    stale = {
        d.uri
        for d in within_reach
        if d.uri in current and (d.uri in damaged or current[d.uri].content_hash != d.content_hash)
    }
    return Plan(
        added=tuple(d for d in within_reach if d.uri not in current),
        changed=tuple(d for d in within_reach if d.uri in stale),
        unchanged=tuple(d.uri for d in documents if d.uri in current and d.uri not in stale),
        removed=removed,
    )


def plan_removals(
    documents: Iterable[SourceDocument],
    problems: Iterable[Problem],
    current: Mapping[str, Current],
    accepted: Collection[str] = frozenset(),
) -> Removals:
    """What leaves the knowledge base, and what of it waits for a person.

    Where more than half of a source's documents, or of all, would go at once, it looks like a lost folder: nothing of
    that source (or nothing at all) goes. `accepted` holds digests of removals that a person agreed to; each stands for
    those very documents and contents, so a later loss has another one.
    """
    unusable = tuple(problem.uri for problem in problems)
    kept = {*(document.uri for document in documents), *unusable}
    # A folder that can't be read keeps what was in it.
    folders = tuple(f"{uri}/" for uri in unusable)
    gone: dict[str, list[str]] = defaultdict(list)
    for uri in sorted(current):
        if uri not in kept and not uri.startswith(folders):
            gone[document_source(uri)].append(uri)
    had = Counter(map(document_source, current))
    too_many = 2 * sum(map(len, gone.values())) > len(current)
    going: list[str] = []
    withheld: list[Problem] = []
    for source, uris in gone.items():
        digest = _digest(current[uri] for uri in uris)
        if digest in accepted or not (too_many or 2 * len(uris) > had[source]):
            going += uris
        else:
            withheld.append(_describe_removal(source, len(uris), had[source], digest))
    return Removals(tuple(sorted(going)), tuple(withheld))


def _describe_removal(source: str, gone: int, had: int, digest: str) -> Problem:
    verb, pronoun = ("is", "it stays") if gone == 1 else ("are", "they stay")
    message = (
        f"{gone} of {had} documents of `{source}` {verb} gone; {pronoun} in the knowledge base until "
        "`ghostwriter knowledge sync --accept-removals`"
    )
    return Problem(document_uri(source, "").removesuffix("/"), message, digest)


def _digest(documents: Iterable[Current]) -> str:
    lines = (f"{document.uri} {document.content_hash}\n" for document in documents)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def find_late_sources(
    documents: Iterable[SourceDocument], current: Mapping[str, Current], arms: Collection[str]
) -> list[Problem]:
    """Sources with something to write that have no arm in this run: it began before Airflow knew their folders."""
    late = {
        d.source
        for d in documents
        if d.source not in arms and (d.uri not in current or current[d.uri].content_hash != d.content_hash)
    }
    message = "the run began before Airflow knew this folder: `ghostwriter knowledge sync` reads it"
    return [Problem(document_uri(source, "").removesuffix("/"), message) for source in sorted(late)]


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
