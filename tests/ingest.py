"""The ingest deployment for tests: the real ledger and hand-over, fakes of the sources, formats, store and provider.

`Deployment.sync` does what a Dag run does; `Deployment.check` compares every object with what the sources show.
"""

import hashlib
import math
import random
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest import ledger, tasks
from deployments.ingest.composition import Formats, Ingest
from deployments.ingest.connectors.port import (
    Connector,
    DocumentGoneError,
    DocumentUnreadableError,
    SourceUnavailableError,
)
from deployments.ingest.embedding import join_text
from deployments.ingest.formats.port import Extractor, UnreadableError
from deployments.ingest.handover import Handover
from deployments.ingest.model import Extraction, Passage, Problem, RawDocument, Reference, Source
from deployments.ingest.sync import list_chunk_ids
from shared.contracts import chunk_id, document_uri
from shared.ledger.models import PendingWrite
from shared.llm.fake import FakeLlm
from shared.vectors.fake import FakeVectorStore
from shared.vectors.port import Chunk

MODEL = "fake-embedding"
RECIPE = "fake-1+split-1"
DIMENSIONS = 8


@dataclass
class Shelf:
    """Sources in memory, by name: documents by key. A source that is `down` can't be listed, or opened, whole."""

    sources: dict[str, dict[str, bytes]] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    locked: set[str] = field(default_factory=set)  # URIs that can't be opened
    fingerprints: dict[str, str] = field(default_factory=dict)  # by URI, where not the content's own
    problems: dict[str, list[Problem]] = field(default_factory=dict)  # by source, that listing it meets
    opened: Counter[str] = field(default_factory=Counter)  # URIs
    connectors: dict[str, str] = field(default_factory=dict)  # of sources that are not folders
    declaration_problems: list[Problem] = field(default_factory=list)

    @classmethod
    def load(cls, folder: Path) -> "Shelf":
        """What was saved there."""
        shelf = cls()
        for path in sorted(folder.glob("*/*")):
            shelf.sources.setdefault(path.parent.name, {})[path.name] = path.read_bytes()
        return shelf

    def save(self, folder: Path) -> None:
        """Write everything into files, a folder a source."""
        shutil.rmtree(folder, ignore_errors=True)
        for source, documents in self.sources.items():
            (folder / source).mkdir(parents=True)
            for key, content in documents.items():
                (folder / source / key).write_bytes(content)

    def put(self, uri: str, content: str | bytes) -> None:
        source, _, key = uri.removeprefix("knowledge://").partition("/")
        encoded = content.encode() if isinstance(content, str) else content
        self.sources.setdefault(source, {})[key] = encoded

    def take(self, uri: str) -> bytes:
        source, _, key = uri.removeprefix("knowledge://").partition("/")
        return self.sources[source].pop(key)

    def move(self, uri: str, to: str) -> None:
        self.put(to, self.take(uri))

    def list_sources(self) -> tuple[list[Source], list[Problem]]:
        found = [Source(name, self.connectors.get(name, "folder")) for name in sorted(self.sources)]
        return found, self.declaration_problems

    def connect(self, source: Source) -> "FakeConnector":
        return FakeConnector(self, source.name)

    def read(self) -> dict[str, bytes]:
        """All documents, by URI."""
        return {
            document_uri(source, key): content
            for source, documents in self.sources.items()
            for key, content in documents.items()
        }


@dataclass
class FakeConnector(Connector):
    """A source of a shelf."""

    shelf: Shelf
    source: str

    def list_references(self, known: Mapping[str, str]) -> Iterator[Reference | Problem]:
        yield from self.shelf.problems.get(self.source, [])
        for number, (key, content) in enumerate(list(self.shelf.sources[self.source].items())):
            if self.source in self.shelf.down and number:
                raise SourceUnavailableError("the source went away in the middle")
            uri = document_uri(self.source, key)
            fingerprint = self.shelf.fingerprints.get(uri, hashlib.sha256(content).hexdigest()[:16])
            yield Reference(uri, self.source, key, fingerprint, len(content), "", f"shelf:{key}")
        if self.source in self.shelf.down:
            raise SourceUnavailableError("the source went away at the end")

    def open_document(self, reference: Reference) -> RawDocument:
        self.shelf.opened[reference.uri] += 1
        if self.source in self.shelf.down:
            raise SourceUnavailableError("the source is away")
        if reference.uri in self.shelf.locked:
            raise DocumentUnreadableError("it can't be opened: unlock it")
        content = self.shelf.sources.get(self.source, {}).get(reference.key)
        if content is None:
            raise DocumentGoneError("it is gone")
        return RawDocument(reference, content, hashlib.sha256(content).hexdigest())


class FakeExtractor(Extractor):
    """A title in the first line after `# `, then paragraphs; what is not UTF-8 is unreadable."""

    name, version = "fake", 1

    def extract(self, content: bytes, name: str) -> Extraction:
        if content.startswith(b"BUG"):
            raise KeyError("a mistake of the library")
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise UnreadableError("it is not UTF-8: save it as UTF-8") from None
        title = text.splitlines()[0].removeprefix("# ") if text.startswith("# ") else ""
        return Extraction(text, markdown=True, title=title, language="en")


def split(extraction: Extraction) -> list[Passage]:
    """A passage a paragraph; the title is none."""
    passages, start = [], 0
    for part in extraction.text.split("\n\n"):
        if part.strip() and not part.startswith("# "):
            passages.append(Passage(part, ("Heading",), start, start + len(part)))
        start += len(part) + 2
    return passages


FORMATS = Formats(
    find_extractor=lambda name, media_type, content: FakeExtractor(),
    split=split,
    describe_recipe=lambda extractor: f"{extractor.name}-{extractor.version}+split-1",
)


def embed_text(one: str) -> list[float]:
    """A unit vector of the text's own: no two texts have the same, so that each finds itself."""
    chance = random.Random(one)
    vector = [chance.gauss(0, 1) for _ in range(DIMENSIONS)]
    norm = math.hypot(*vector)
    return [value / norm for value in vector]


class CountingLlm(FakeLlm):
    """Notes how often it was asked for each text; `requests` are lists of texts."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[list[str]] = []

    def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        self.requests.append(list(texts))
        return [embed_text(one) for one in texts]

    @property
    def asked(self) -> Counter[str]:
        return Counter(one for request in self.requests for one in request)


class Training:
    """Takes asset events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []

    def post_asset_event(self, asset_uri: str, extra: Mapping[str, Any]) -> None:
        self.events.append((asset_uri, extra))


class Run:
    """A Dag run, step by step; a step that is cleared in Airflow is called again."""

    def __init__(self, ingest: Ingest, name: str, accepted: Collection[str] = ()) -> None:
        self.ingest, self.name, self.accepted = ingest, name, accepted
        self.sources: list[tasks.SourceEntry] = []
        self.batches: list[tasks.Batch] = []
        self.planned: tasks.Planned | None = None
        self.outcome: tasks.Outcome | None = None

    def list_sources(self) -> None:
        self.sources = tasks.list_sources(self.ingest, self.name, reason="a test")

    def scan(self) -> None:
        for source in self.sources:
            with suppress(SourceUnavailableError):  # the run goes on without it
                tasks.scan(self.ingest, self.name, source)

    def plan(self) -> None:
        self.planned = tasks.plan(self.ingest, self.name, accepted=self.accepted)
        self.batches = [batch for batches in self.planned["batches"].values() for batch in batches]

    def extract(self) -> None:
        self.batches = [tasks.extract(self.ingest, self.name, batch) for batch in self.batches]

    def load(self) -> None:
        for batch in self.batches:
            tasks.load(self.ingest, self.name, batch)

    def commit(self) -> None:
        self.outcome = tasks.commit(self.ingest, self.name)

    @property
    def steps(self) -> list[Any]:
        return [self.list_sources, self.scan, self.plan, self.extract, self.load, self.commit]

    def go(self) -> tasks.Outcome:
        for step in self.steps:
            step()
        assert self.outcome is not None
        return self.outcome


class Deployment:
    """Ingest over a shelf."""

    def __init__(self, sessions: sessionmaker[Session], url: str = "memory://ingest/runs") -> None:
        self.shelf = Shelf()
        self.store = FakeVectorStore(created=False)
        self.llm = CountingLlm()
        self.training = Training()
        self.sessions = sessions
        self.ingest = self.build(url=url)
        self.runs = 0

    def build(self, url: str = "memory://ingest/runs", **parts: Any) -> Ingest:
        """An ingest of these parts; the deployment's own where none is given."""
        own = {
            "sessions": self.sessions, "store": self.store, "llm": self.llm, "embedding_model": MODEL,
            "handover": Handover(url), "formats": FORMATS, "list_sources": self.shelf.list_sources,
            "connect": self.shelf.connect, "training": self.training,
        }  # fmt: skip
        return Ingest(**{**own, **parts})

    def start(self, **options: Any) -> Run:
        self.runs += 1
        return Run(options.pop("ingest", self.ingest), f"manual__{self.runs}", **options)

    def sync(self, **options: Any) -> tasks.Outcome:
        return self.start(**options).go()

    def read_texts(self) -> dict[str, list[str]]:
        """What the store holds of each document, in order."""
        found: dict[str, list[Chunk]] = {}
        for chunk in self.store.iterate():
            found.setdefault(chunk.uri, []).append(chunk)
        return {
            uri: [chunk.text for chunk in sorted(chunks, key=lambda chunk: chunk.position)]
            for uri, chunks in found.items()
        }

    def expect(self, documents: Mapping[str, bytes] | None = None) -> dict[str, Chunk]:
        """The chunks of these documents, of all on the shelf where none are given, by id."""
        chunks = {}
        for uri, content in (self.shelf.read() if documents is None else documents).items():
            extraction = FakeExtractor().extract(content, uri)
            digest = hashlib.sha256(content).hexdigest()
            title = extraction.title or uri.rsplit("/", 1)[-1].rpartition(".")[0]
            for position, passage in enumerate(split(extraction)):
                name = chunk_id(uri, digest, position, RECIPE)
                chunks[name] = Chunk(
                    name, uri, digest, position, uri.split("/")[2], title, "Heading", passage.text, RECIPE, None,
                    passage.start, passage.end,
                )  # fmt: skip
        return chunks

    def check(self, documents: Mapping[str, bytes] | None = None) -> None:
        """Store, ledger and journal hold exactly these documents, all of the shelf where none are given."""
        expected = self.expect(documents)
        assert {chunk.id: chunk for chunk in self.store.iterate()} == expected
        assert self.store.get(list(expected)) == expected
        assert self.store.count() == len(expected)
        if isinstance(self.store, FakeVectorStore):
            chunks = self.store._chunks or {}
            self.check_vectors({name: chunks[name].vector for name in expected}, expected)
        with self.sessions() as session:
            current = {v.uri: v for v in ledger.read_current(session)}
            assert {i for v in current.values() for i in list_chunk_ids(v)} == set(expected)
            assert session.scalars(select(PendingWrite)).all() == []
            references = dict(
                session.execute(text("SELECT uri, content_hash FROM document_references")).all()
            )
            assert references == {uri: version.content_hash for uri, version in current.items()}
            kept = session.execute(text("SELECT content_hash FROM document_texts")).scalars().all()
            assert {v.content_hash for v in current.values()} <= set(kept)

    def check_vectors(self, vectors: Mapping[str, Sequence[float]], expected: Mapping[str, Chunk]) -> None:
        """Each chunk has the vector of its own text."""
        for name, vector in vectors.items():
            chunk = expected[name]
            made = embed_text(join_text(chunk.title, chunk.heading, chunk.text))
            assert max(abs(a - b) for a, b in zip(vector, made, strict=True)) < 1e-6

    def check_visible(self) -> None:
        """Whatever happened: what is current in the ledger is whole in the store."""
        with self.sessions() as session:
            ids = [i for version in ledger.read_current(session) for i in list_chunk_ids(version)]
        assert set(self.store.get(ids)) == set(ids)

    def check_embedded_once(self, but: Collection[str] = ()) -> None:
        """No text was asked for twice, those of a request that died apart: they were, at most."""
        twice = {one: n for one, n in self.llm.asked.items() if n > (2 if one in but else 1)}
        assert twice == {}
