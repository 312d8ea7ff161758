"""One store is shared by many threads: one client, whoever calls first and whatever happens to the server."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import weaviate
from weaviate.exceptions import WeaviateClosedClientError, WeaviateConnectionError

from shared.vectors.port import VectorStoreError
from shared.vectors.weaviate import WeaviateStore

THREADS = 8


class Client:
    """The vendor's client, as far as `collection_exists` goes. `up` says which clients have a server."""

    def __init__(self, world: "World") -> None:
        self.world, self.closed = world, 0
        self.alias = SimpleNamespace(get=self._get)
        self.collections = SimpleNamespace(
            exists=lambda _: True, use=lambda _: SimpleNamespace(iterator=self._iterate)
        )

    def _get(self, **_: Any) -> SimpleNamespace:
        if self.closed:
            raise WeaviateClosedClientError()
        self.world.meet()
        if self.closed:
            raise WeaviateClosedClientError()
        if self not in self.world.up:
            raise WeaviateConnectionError("gone")
        return SimpleNamespace(collection="Chunk_v1")

    def _iterate(self, **_: Any) -> Iterator[SimpleNamespace]:
        for text in ("one", "two"):
            if self.closed:
                raise WeaviateClosedClientError()
            if self not in self.world.up:
                raise WeaviateConnectionError("gone")
            yield SimpleNamespace(uuid=text, properties={"text": text})

    def close(self) -> None:
        self.closed += 1


class World:
    """Every client that was made, and those that still have a server."""

    def __init__(self) -> None:
        self.clients: list[Client] = []
        self.up: list[Client] = []
        self.refuses = False
        self.meet = lambda: None

    def connect(self, **_: Any) -> Client:
        time.sleep(0.02)  # time enough for every other thread to come this far
        if self.refuses:
            raise WeaviateConnectionError("refused")
        client = Client(self)
        self.clients.append(client)
        self.up.append(client)
        return client

    @property
    def open(self) -> list[Client]:
        return [client for client in self.clients if not client.closed]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(weaviate, "connect_to_custom", world.connect)
    return world


@pytest.fixture
def store(world: World) -> Iterator[WeaviateStore]:
    store = WeaviateStore("127.0.0.1", 1, 2, "key")
    yield store
    store.close()
    assert world.open == []


def call_from_all(store: WeaviateStore) -> list[bool]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda _: store.collection_exists(), range(THREADS)))


def test_first_calls_at_once_make_one_client(store: WeaviateStore, world: World) -> None:
    assert call_from_all(store) == [True] * THREADS
    assert len(world.clients) == 1


def test_after_a_restart_of_the_server_all_threads_share_one_new_client(
    store: WeaviateStore, world: World
) -> None:
    store.collection_exists()
    world.up.clear()
    world.meet = lambda: time.sleep(0.02)
    assert call_from_all(store) == [True] * THREADS
    assert [client.closed for client in world.clients] == [1, 0]


def test_a_server_that_stays_away_is_an_error_and_leaves_no_client(
    store: WeaviateStore, world: World
) -> None:
    store.collection_exists()
    world.up.clear()
    world.refuses = True
    for _ in range(2):
        with pytest.raises(VectorStoreError, match="can't be reached"):
            store.collection_exists()
    world.refuses = False
    assert store.collection_exists()
    assert [client.closed for client in world.clients] == [1, 0]


def test_a_new_client_that_fails_at_once_is_let_go(store: WeaviateStore, world: World) -> None:
    store.collection_exists()
    world.up.clear()
    world.up = Unreachable()
    with pytest.raises(VectorStoreError, match="can't be reached"):
        store.collection_exists()
    assert [client.closed for client in world.clients] == [1, 1]


def test_the_first_call_of_all_is_not_tried_twice(store: WeaviateStore, world: World) -> None:
    world.up = Unreachable()
    with pytest.raises(VectorStoreError, match="can't be reached"):
        store.collection_exists()
    assert len(world.clients) == 1


class Unreachable(list[Client]):
    """No client has a server, not even a new one."""

    def append(self, _: Client) -> None:
        pass


def test_closing_closes_each_client_once_and_the_next_call_connects_anew(
    store: WeaviateStore, world: World
) -> None:
    store.close()
    store.collection_exists()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: store.close(), range(THREADS)))
    assert [client.closed for client in world.clients] == [1]
    assert store.collection_exists()
    assert [client.closed for client in world.clients] == [1, 0]


def test_a_call_under_which_the_store_is_closed_ends_well_and_closes_the_client(
    store: WeaviateStore, world: World
) -> None:
    world.meet = store.close
    assert store.collection_exists()
    assert [client.closed for client in world.clients] == [1]


def test_a_server_that_goes_away_under_a_reader_is_the_ports_own_error(
    store: WeaviateStore, world: World
) -> None:
    chunks = store.iterate()
    next(chunks)
    world.up.clear()
    with pytest.raises(VectorStoreError, match="can't be reached"):
        next(chunks)
    store.close()
    assert [client.closed for client in world.clients] == [1]


def test_chunks_are_read_to_their_end_though_the_store_is_closed_meanwhile(
    store: WeaviateStore, world: World
) -> None:
    chunks = store.iterate()
    assert next(chunks).text == "one"
    store.close()
    assert [client.closed for client in world.clients] == [0]
    assert [chunk.text for chunk in chunks] == ["two"]
    assert [client.closed for client in world.clients] == [1]
