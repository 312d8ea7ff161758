"""Death in the middle of a sync, at any call to store, ledger or provider; and what must be right after the next run.

A process that is killed is shown here as an exception that nobody catches: what it had open in the ledger is undone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import fsspec
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from shared.vectors.fake import FakeVectorStore
from shared.vectors.port import Chunk, EmbeddedChunk
from tests.ingest import CountingLlm, Deployment
from tests.ledger import Ledgers

MANY = 10_000  # more calls than a sync has


class Killed(BaseException):
    """The process dies here."""


class Reaper:
    """Counts calls, and kills at one of them: before, halfway, or after what it does."""

    def __init__(self) -> None:
        self.count, self.at, self.when = 0, 0, "before"

    def call(self, do: Callable[[], Any], half: Callable[[], Any] = lambda: None) -> Any:
        self.count += 1
        if self.count != self.at:
            return do()
        if self.when == "halfway":
            half()
        elif self.when == "after":
            do()
        raise Killed


class MortalStore(FakeVectorStore):
    """A store under a reaper; halfway through a change it has done half of it."""

    def __init__(self, reaper: Reaper) -> None:
        super().__init__(created=False)
        self.reaper = reaper

    def write(self, chunks: Sequence[EmbeddedChunk], *, fresh: bool = False) -> None:
        write = super().write
        half = chunks[: len(chunks) // 2]
        self.reaper.call(lambda: write(chunks, fresh=fresh), lambda: write(half, fresh=fresh))

    def delete(self, ids: Sequence[str]) -> None:
        delete = super().delete
        self.reaper.call(lambda: delete(ids), lambda: delete(ids[: len(ids) // 2]))

    def get(self, ids: Sequence[str]) -> dict[str, Chunk]:
        get = super().get
        return self.reaper.call(lambda: get(ids))

    def count(self) -> int:
        return self.reaper.call(super().count)

    def create_collection(self) -> None:
        self.reaper.call(super().create_collection)


class MortalLlm(CountingLlm):
    """A provider under a reaper."""

    def __init__(self, reaper: Reaper) -> None:
        super().__init__()
        self.reaper = reaper

    def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        embed = super().embed
        return self.reaper.call(lambda: embed(model, texts), lambda: embed(model, texts))


def watch_ledger(sessions: sessionmaker[Session], reaper: Reaper) -> None:
    """The reaper sees each statement, and each commit before and after."""
    engine = sessions.kw["bind"]
    event.listen(engine, "before_cursor_execute", lambda *_: reaper.call(lambda: None))
    event.listen(engine, "commit", lambda _: reaper.call(lambda: None))
    event.listen(sessions, "after_commit", lambda _: reaper.call(lambda: None))


class Stage:
    """A knowledge base and a change of its sources, made anew for each death."""

    def __init__(self, ledgers: Ledgers) -> None:
        self.ledgers = ledgers
        with ledgers.keep("faults_base") as sessions:
            base = Deployment(sessions)
            for name in "abcd":
                base.shelf.put(
                    f"knowledge://guides/{name}.md", f"# Guide {name}\n\nold {name}\n\nkept {name}"
                )
                base.shelf.put(f"knowledge://notes/{name}.txt", f"note {name}\n\nmore {name}")
            base.sync()
            base.check()
            self.base = base

    @contextmanager
    def set(self, reaper: Reaper) -> Iterator[Deployment]:
        """The base with the change still to be synced; store and provider are under the reaper."""
        with self.ledgers.make("faults_base") as sessions:
            fsspec.filesystem("memory").store.clear()
            deployment = Deployment(sessions)
            store = MortalStore(reaper)
            store._chunks = dict(self.base.store._chunks or {})
            deployment.store, deployment.llm = store, MortalLlm(reaper)
            deployment.llm.requests = [list(request) for request in self.base.llm.requests]
            deployment.ingest = deployment.build()
            shelf = deployment.shelf
            shelf.sources = {name: dict(documents) for name, documents in self.base.shelf.sources.items()}
            shelf.put("knowledge://guides/a.md", "# Guide a\n\nnew a\n\nkept a")
            shelf.take("knowledge://guides/b.md")
            shelf.move("knowledge://notes/a.txt", "knowledge://notes/moved.txt")
            shelf.put("knowledge://notes/e.txt", "note e")
            shelf.put("knowledge://guides/e.md", "note e")
            shelf.put("knowledge://guides/bad.md", b"\xff\xfe")
            deployment.runs = 1
            yield deployment


def check_all(deployment: Deployment) -> None:
    documents = deployment.shelf.read()
    del documents["knowledge://guides/bad.md"]
    deployment.check(documents)


def die_and_go_on(stage: Stage, reaper: Reaper, at: int, when: str, *, ledger: bool) -> bool:
    """One death and the run after it; False where the run came to its end before."""
    with stage.set(reaper) as deployment:
        if ledger:
            watch_ledger(deployment.sessions, reaper)
        reaper.count, reaper.at, reaper.when = 0, at, when
        died = False
        try:
            deployment.sync()
        except Killed:
            died = True
        reaper.at = 0
        in_flight = deployment.llm.requests[-1] if died else []
        deployment.check_visible()
        # The sources go on changing meanwhile.
        if at % 2:
            deployment.shelf.put("knowledge://guides/a.md", "# Guide a\n\nnewest a\n\nkept a")
        deployment.sync()
        check_all(deployment)
        deployment.check_embedded_once(in_flight)
        return died
