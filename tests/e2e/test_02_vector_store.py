"""Weaviate keeps the vector store's contract, in a collection beside the knowledge base; a reader can't write."""

from collections.abc import Callable

import pytest

from shared.vectors.port import VectorStoreError
from shared.vectors.weaviate import WeaviateStore
from stack.ports import DEFAULT_PORTS
from tests.vector_store_contract import DIMENSIONS, check_contract, embed, make_chunk

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def connect(stack) -> Callable[[str], WeaviateStore]:
    def connect(key: str, http: str = "weaviate") -> WeaviateStore:
        return WeaviateStore(
            "127.0.0.1",
            stack.port(http),
            DEFAULT_PORTS["WEAVIATE_GRPC_PORT"] + stack.port_offset,
            stack.secret(key),
            alias="Contract",
            collection="Contract_v1",
        )

    return connect


def test_weaviate_keeps_the_contract(connect) -> None:
    check_contract(connect("weaviate_api_key"))


def test_an_alias_that_lost_its_collection_is_mended(connect) -> None:
    store = connect("weaviate_api_key")
    store.create_collection()
    with store._borrow() as client:
        client.collections.delete("Contract_v1")
    assert not store.collection_exists()
    assert store.search("x", [1.0] * DIMENSIONS, 3) == [] and list(store.iterate()) == []
    store.create_collection()
    assert store.collection_exists()
    store.drop_collection()
    store.close()


def test_a_reader_cannot_write_and_every_failure_is_the_ports_own(connect) -> None:
    writer, reader = connect("weaviate_api_key"), connect("weaviate_reader_key")
    chunk = make_chunk("knowledge://guides/assets.md", 0, "assets wake Dags")
    writer.create_collection()
    writer.write([embed(chunk, 0)])
    assert [hit.chunk for hit in reader.search("assets", embed(chunk, 0).vector, 1)] == [chunk]
    for change in (lambda: reader.write([embed(chunk, 0)]), lambda: reader.delete([chunk.id])):
        with pytest.raises(VectorStoreError, match="refused the key"):
            change()
    with pytest.raises(VectorStoreError, match="can't be reached"):
        connect("weaviate_api_key", http="postgres").collection_exists()
    assert set(writer.get([chunk.id])) == {chunk.id}
    writer.drop_collection()
    for store in (writer, reader):
        store.close()
