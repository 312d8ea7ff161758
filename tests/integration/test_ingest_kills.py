"""kill -9 at seeded points of a whole sync, in processes of their own, against the real Weaviate and Postgres.

After each the next run leaves exactly the expected chunks: iterator, filter, id and own vector agree on every object.
GHOSTWRITER_KILLS sets how many points are taken; there are thousands.
"""

import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from alembic import command
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest.embedding import digest_text
from shared.contracts import CHUNK_ALIAS
from shared.ledger.__main__ import build_alembic_config
from shared.ledger.models import TextVector
from shared.ledger.sessions import create_sessions
from tests.ingest import MODEL, Deployment, embed_text
from tests.ingest_faults import MANY, Reaper, Stage, die_and_go_on
from tests.ledger import serve_ledgers
from tests.postgres_server import ROOT, Postgres, serve_postgres
from tests.weaviate_server import WeaviateServer, serve_weaviate

KILLS = int(os.environ.get("GHOSTWRITER_KILLS", "8"))
SEED = 9
DOCUMENTS = 12

pytestmark = pytest.mark.timeout(60 + 30 * KILLS)


class Provider(ThreadingHTTPServer):
    """Embeds as OpenAI does, and notes the texts of each request."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(asked["input"])
        data = [
            {"object": "embedding", "index": number, "embedding": embed_text(one)}
            for number, one in enumerate(asked["input"])
        ]
        body = json.dumps({"object": "list", "model": MODEL, "data": data, "usage": {}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not into the test's output."""


@contextmanager
def serve_provider() -> Iterator[Provider]:
    server = Provider()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


class Runner:
    """Runs of ingest in processes of their own."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.ingest_process", json.dumps(config)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, name: str, at: int = 0, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"run": name, "at": at, **order}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the process that runs ingest ended"
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(20)


class House:
    """A knowledge base on real servers, whose sources change by chance before each run."""

    def __init__(
        self, folder: Path, postgres: Postgres, weaviate: WeaviateServer, provider: Provider, runner: Runner
    ) -> None:
        self.folder, self.postgres, self.weaviate = folder, postgres, weaviate
        self.provider, self.runner = provider, runner
        self.chance = random.Random(SEED)
        self.sessions: sessionmaker[Session] = create_sessions(postgres.dsn)
        self.deployment = Deployment(self.sessions, url=f"file://{folder}/unused")
        self.deployment.store = weaviate.connect()  # type: ignore[assignment]
        self.runs = 0
        self.lost: Counter[str] = Counter()  # texts whose vectors a kill may have cost, and how often
        for number in range(DOCUMENTS):
            self.write(number)
        self.save()

    def write(self, number: int) -> None:
        paragraphs = [
            f"paragraph {n} says {self.chance.randrange(10**9)}" for n in range(self.chance.randint(2, 12))
        ]
        self.deployment.shelf.put(
            f"knowledge://s{number % 2}/{number}.md", "# Title\n\n" + "\n\n".join(paragraphs)
        )

    def edit(self) -> None:
        """Some change, one moves, one may go or come."""
        shelf = self.deployment.shelf
        for number in self.chance.sample(range(DOCUMENTS), 3):
            self.write(number)
        uri, content = self.chance.choice(sorted(shelf.read().items()))
        shelf.put(f"knowledge://s0/moved-{self.runs}.md", content)
        shelf.take(uri)
        if len(extra := sorted(uri for uri in shelf.read() if "moved" in uri)) > 3:
            shelf.take(extra[0])
        self.save()

    def save(self) -> None:
        self.deployment.shelf.save(self.folder / "shelf")

    def run(self, at: int = 0, **order: Any) -> dict[str, Any]:
        self.runs += 1
        told = self.runner.run(f"run-{self.runs}", at, **order)
        if at:
            self.note_lost()
        return told

    def note_lost(self) -> None:
        """Only the request in flight may be lost."""
        asked = self.provider.requests[-1] if self.provider.requests else []
        with self.sessions() as session:
            kept = set(session.scalars(select(TextVector.text_digest)))
        self.lost.update(one for one in asked if digest_text(one) not in kept)

    def check_embedded_once(self) -> None:
        asked = Counter(one for request in self.provider.requests for one in request)
        assert {one: n for one, n in asked.items() if n > 1 + self.lost[one]} == {}

    def check_objects(self) -> None:
        """Every object by iterator, by id, by a filter on its document, and by its own vector."""
        self.deployment.check()
        expected = self.deployment.expect()
        with self.deployment.store._borrow() as client:  # type: ignore[attr-defined]
            from weaviate.classes.query import Filter

            chunks = client.collections.use(CHUNK_ALIAS)
            vectors = {
                str(item.uuid): item.vector["default"] for item in chunks.iterator(include_vector=True)
            }
            assert set(vectors) == set(expected)
            self.deployment.check_vectors(vectors, expected)
            for uri in {chunk.uri for chunk in expected.values()}:
                found = chunks.query.fetch_objects(filters=Filter.by_property("uri").equal(uri), limit=1000)
                ids = {str(item.uuid) for item in found.objects}
                assert ids == {name for name, chunk in expected.items() if chunk.uri == uri}
            for name, vector in vectors.items():
                # Two documents of one content have chunks of one vector.
                twins = sum(vector == other for other in vectors.values())
                nearest = chunks.query.near_vector(vector, limit=twins).objects
                assert name in {str(item.uuid) for item in nearest}, expected[name]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    with (
        serve_postgres() as postgres,
        serve_weaviate() as weaviate,
        serve_provider() as provider,
        ExitStack() as stack,
    ):
        command.upgrade(build_alembic_config(postgres.dsn), "head")
        config = {
            "shelf": str(folder / "shelf"), "ledger": postgres.dsn, "handover": f"file://{folder}/runs",
            "port": weaviate.port, "grpc_port": weaviate.grpc_port, "key": weaviate.key,
            "llm": f"http://127.0.0.1:{provider.server_port}/v1",
        }  # fmt: skip
        runner = Runner(config)
        stack.callback(runner.close)
        house = House(folder, postgres, weaviate, provider, runner)
        stack.callback(house.deployment.store.close)
        stack.callback(house.sessions.kw["bind"].dispose)
        first = house.run()
        assert first["signal"] == 0 and "error" not in first, first
        house.check_objects()
        yield house


def count_steps(house: House) -> int:
    """Of a whole sync, in which nobody dies."""
    house.edit()
    told = house.run()
    assert told["signal"] == 0 and "error" not in told, told
    house.check_objects()
    return int(told["steps"])


def list_family(pid: int) -> list[tuple[int, float]]:
    """The process with its children, each with the time when it began."""
    process = psutil.Process(pid)
    return [(one.pid, one.create_time()) for one in (*process.children(recursive=True), process)]


def test_a_sync_that_is_killed_at_any_point_is_finished_by_the_next(house: House) -> None:
    steps = count_steps(house)
    assert steps > 2_000
    killed = 0
    for number in range(KILLS):
        house.edit()
        # A point in each portion of the sync, so that few kills see all of it.
        at = house.chance.randint(steps * number // KILLS + 1, steps * (number + 1) // KILLS)
        told = house.run(at)
        killed += told["signal"] == 9
        house.deployment.check_visible()
        if number % 2:
            house.edit()  # the sources go on changing
        told = house.run()
        assert told["signal"] == 0 and "error" not in told, (at, told)
        house.check_objects()
        house.check_embedded_once()
    assert killed >= KILLS * 3 // 4


def test_weaviate_killed_in_the_middle_of_a_sync_is_healed_by_the_next(house: House) -> None:
    steps = count_steps(house)
    for number in range(max(2, KILLS // 2)):
        house.edit()
        assert house.weaviate.process is not None
        at = house.chance.randint(steps // 3, steps)
        house.run(at, kill=list_family(house.weaviate.process.pid), itself=False)
        house.weaviate.kill()
        house.weaviate.start()
        house.deployment.check_visible()
        if number % 2:
            house.edit()
        told = house.run()
        assert told["signal"] == 0 and "error" not in told, (at, told)
        house.check_objects()
        house.check_embedded_once()


def test_everything_killed_at_once_is_healed_by_the_next(house: House) -> None:
    """As in a power cut, but for what the operating system still writes to the disk."""
    steps = count_steps(house)
    for number in range(max(2, KILLS // 4)):
        house.edit()
        assert house.weaviate.process is not None and house.postgres.process is not None
        servers = [*list_family(house.weaviate.process.pid), *list_family(house.postgres.process.pid)]
        at = house.chance.randint(steps // 3, steps)
        house.runs += 1
        house.runner.run(f"run-{house.runs}", at, kill=servers)
        house.weaviate.kill()
        house.postgres.stop()
        house.postgres.start()
        house.weaviate.start()
        house.note_lost()
        house.deployment.check_visible()
        if number % 2:
            house.edit()
        told = house.run()
        assert told["signal"] == 0 and "error" not in told, (at, told)
        house.check_objects()
        house.check_embedded_once()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(KILLS < 50, reason="takes minutes: GHOSTWRITER_KILLS=50 does it")
def test_a_sync_that_dies_at_any_statement_or_commit_is_finished_by_the_next() -> None:
    """Without real servers but for the ledger: all of them, where the unit test takes every eleventh."""
    with serve_ledgers() as ledgers:
        stage, deaths = Stage(ledgers), 0
        for at in range(1, MANY):
            if not die_and_go_on(stage, Reaper(), at, "before", ledger=True):
                break
            deaths += 1
        assert deaths > 100
