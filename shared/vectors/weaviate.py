"""Weaviate behind the vector store's port. What it does silently wrong is checked here."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from shared.contracts import CHUNK_ALIAS, CHUNK_COLLECTION
from shared.vectors.neighbours import MEND_ROUNDS, find_lost
from shared.vectors.objects import FIELDS, GROUP, NUMBERS, WORDS, to_chunk, to_properties
from shared.vectors.port import (
    ALPHA,
    Chunk,
    EmbeddedChunk,
    ScoredChunk,
    VectorStore,
    VectorStoreError,
    check_vectors,
    compute_cosine,
)

if TYPE_CHECKING:
    from weaviate import WeaviateClient

log = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass
class _Connection:
    client: "WeaviateClient"
    users: int = 0
    retired: bool = False

    def close_if_done(self) -> None:
        """Once retired it gets no new users, so it comes to this once."""
        if self.retired and not self.users:
            self.client.close()


class WeaviateStore(VectorStore):
    """Connects at the first call and again after the server was away. A reader's key can search but not write.

    Threads may share it, `close` included: calls that run then end as if nothing had happened.
    """

    def __init__(
        self,
        host: str,
        port: int,
        grpc_port: int,
        api_key: str,
        *,
        secure: bool = False,
        timeout: int = 30,
        alias: str = CHUNK_ALIAS,
        collection: str = CHUNK_COLLECTION,
    ) -> None:
        self._alias, self._collection = alias, collection
        self._address = (host, port, grpc_port)
        self._api_key, self._secure, self._timeout = api_key, secure, timeout
        self._connection: _Connection | None = None
        self._lock = Lock()

    def collection_exists(self) -> bool:
        return self._call(self._is_there)

    def create_collection(self) -> None:
        from weaviate.classes.config import Configure, VectorDistances

        def create(client: "WeaviateClient") -> None:
            if self._is_there(client):
                _add_properties(client.collections.use(self._alias))
                return
            if client.collections.exists(self._collection):
                _add_properties(client.collections.use(self._collection))
            else:
                client.collections.create(
                    self._collection,
                    vector_config=Configure.Vectors.self_provided(
                        vector_index_config=Configure.VectorIndex.hnsw(distance_metric=VectorDistances.COSINE)
                    ),
                    properties=_list_properties(),
                )
            # An alias outlives its collection: one that points at nothing is turned to the new one.
            if not client.alias.update(alias_name=self._alias, new_target_collection=self._collection):
                client.alias.create(alias_name=self._alias, target_collection=self._collection)

        self._call(create)

    def drop_collection(self) -> None:
        def drop(client: "WeaviateClient") -> None:
            alias = client.alias.get(alias_name=self._alias)
            if alias:
                client.alias.delete(alias_name=self._alias)
            # Deleting through the alias does nothing, silently.
            client.collections.delete(alias.collection if alias else self._collection)

        self._call(drop)

    def write(self, chunks: Sequence[EmbeddedChunk], *, fresh: bool = False) -> None:
        check_vectors(chunks)
        for start in range(0, len(chunks), GROUP):
            group = chunks[start : start + GROUP]
            if not fresh:
                # An object that a crash left half-indexed is healed only by deleting it first.
                self.delete([item.chunk.id for item in group])
            self._call(partial(_insert, self._alias, group))

    def delete(self, ids: Sequence[str]) -> None:
        def delete(one: str, client: "WeaviateClient") -> None:
            client.collections.use(self._alias).data.delete_by_id(one)

        # By id: a kill during a deletion by filter leaves index and store disagreeing.
        for chunk_id in ids:
            self._call(partial(delete, chunk_id))

    def get(self, ids: Sequence[str]) -> dict[str, Chunk]:
        found: dict[str, Chunk] = {}
        for start in range(0, len(ids), GROUP):
            found.update(self._call(partial(_fetch, self._alias, ids[start : start + GROUP])))
        return found

    def count(self) -> int:
        def count(client: "WeaviateClient") -> int:
            if not self._is_there(client):
                return 0
            return int(
                client.collections.use(self._alias).aggregate.over_all(total_count=True).total_count or 0
            )

        return self._call(count)

    def iterate(self) -> Iterator[Chunk]:
        if not self.collection_exists():
            return
        try:
            with self._borrow() as client:
                items = client.collections.use(self._alias).iterator(cache_size=1000)
                yield from map(to_chunk, items)
        except _failures() as error:
            raise VectorStoreError(self._explain(error)) from error

    def search(
        self, text: str, vector: Sequence[float], limit: int, *, alpha: float = ALPHA
    ) -> list[ScoredChunk]:
        from weaviate.classes.query import HybridFusion, MetadataQuery

        if not self.collection_exists():
            return []
        answer = self._call(
            lambda client: client.collections.use(self._alias).query.hybrid(
                query=text,
                vector=list(vector),
                alpha=alpha,
                fusion_type=HybridFusion.RELATIVE_SCORE,
                query_properties=["title^2", "heading", "text"],
                limit=limit,
                return_metadata=MetadataQuery(score=True),
                include_vector=True,  # a hybrid search tells no distance
            )
        )
        return [
            ScoredChunk(
                to_chunk(item),
                float(item.metadata.score or 0.0),
                compute_cosine(vector, item.vector.get("default", ())),
            )
            for item in answer.objects
        ]

    def count_starts(self) -> int:
        # Each start begins a term of its own, even that of a single node.
        def count(client: "WeaviateClient") -> int:
            return max(
                (int(node.raft.term or 0) for node in client.cluster.statistics().statistics), default=0
            )

        return self._call(count)

    def mend(self) -> int:
        def mend(client: "WeaviateClient") -> int:
            if not self._is_there(client):
                return 0
            collection = client.collections.use(self._alias)
            lost = list(find_lost(collection))
            count = len(lost)
            for _ in range(MEND_ROUNDS):
                if not lost:
                    return count
                self.write([EmbeddedChunk(to_chunk(item), vector) for item, vector in lost])
                lost = list(find_lost(collection, [str(item.uuid) for item, _ in lost]))
            raise VectorStoreError(
                f"{len(lost)} chunks are not found by their own vector, though they were written anew: "
                "`ghostwriter knowledge rebuild` makes a fresh collection."
            )

        return self._call(mend)

    def close(self) -> None:
        connection = self._connection
        if connection is not None:
            self._retire(connection)

    def _is_there(self, client: "WeaviateClient") -> bool:
        alias = client.alias.get(alias_name=self._alias)
        return alias is not None and client.collections.exists(alias.collection)

    def _call(self, action: "Callable[[WeaviateClient], Result]") -> Result:
        known = self._connection
        try:
            with self._borrow() as client:
                return action(client)
        except _failures() as error:
            if known is None or not _is_disconnect(error):
                raise VectorStoreError(self._explain(error)) from error
        # The server was restarted under us: once more with a new connection.
        self._retire(known)
        try:
            with self._borrow() as client:
                return action(client)
        except _failures() as error:
            self.close()
            raise VectorStoreError(self._explain(error)) from error

    @contextmanager
    def _borrow(self) -> "Iterator[WeaviateClient]":
        """The client that all threads share, made where there is none; it is not closed while it is lent."""
        with self._lock:
            if self._connection is None:
                self._connection = _Connection(self._connect())
            connection = self._connection
            connection.users += 1
        try:
            yield connection.client
        finally:
            with self._lock:
                connection.users -= 1
                connection.close_if_done()

    def _retire(self, connection: "_Connection") -> None:
        """No new call gets it; unless another thread has retired it already."""
        with self._lock:
            if self._connection is not connection:
                return
            self._connection, connection.retired = None, True
            connection.close_if_done()

    def _connect(self) -> "WeaviateClient":
        import weaviate
        from weaviate.classes.init import AdditionalConfig, Auth, Timeout

        host, port, grpc_port = self._address
        return weaviate.connect_to_custom(
            http_host=host,
            http_port=port,
            http_secure=self._secure,
            grpc_host=host,
            grpc_port=grpc_port,
            grpc_secure=self._secure,
            auth_credentials=Auth.api_key(self._api_key),
            additional_config=AdditionalConfig(
                timeout=Timeout(init=10, query=self._timeout, insert=self._timeout * 4)
            ),
        )

    def _explain(self, error: Exception) -> str:
        from weaviate.exceptions import InsufficientPermissionsError

        host, port, _ = self._address
        text = str(error)
        # Refused while connecting, the key shows only in the text.
        if isinstance(error, InsufficientPermissionsError) or "status code: 401" in text:
            return (
                f"Weaviate at {host}:{port} refused the key: check weaviate_api_key and weaviate_reader_key."
            )
        if _is_disconnect(error):
            return f"Weaviate at {host}:{port} can't be reached ({type(error).__name__}): is it up?"
        return f"Weaviate at {host}:{port} failed: {text[:300]}"


def _failures() -> tuple[type[Exception], ...]:
    """What the client raises; a connection that breaks under a call comes through as httpx's or gRPC's own error."""
    from grpc import RpcError
    from httpx import TransportError
    from weaviate.exceptions import WeaviateBaseError

    return (WeaviateBaseError, TransportError, RpcError)


def _list_properties() -> list[Any]:
    from weaviate.classes.config import DataType, Property, Tokenization

    field, word = Tokenization.FIELD, Tokenization.WORD
    return [
        *(
            Property(name=name, data_type=DataType.TEXT, tokenization=field, index_searchable=False)
            for name in FIELDS
        ),
        *(Property(name=name, data_type=DataType.TEXT, tokenization=word) for name in WORDS),
        *(Property(name=name, data_type=DataType.INT) for name in NUMBERS),
    ]


def _add_properties(collection: Any) -> None:
    """A collection of an earlier version of Ghostwriter lacks some: its old chunks have no value there."""
    there = {found.name for found in collection.config.get(simple=True).properties}
    for wanted in _list_properties():
        if wanted.name not in there:
            collection.config.add_property(wanted)


def _insert(alias: str, group: Sequence[EmbeddedChunk], client: "WeaviateClient") -> None:
    from weaviate.classes.data import DataObject

    answer = client.collections.use(alias).data.insert_many(
        [DataObject(uuid=i.chunk.id, properties=to_properties(i.chunk), vector=list(i.vector)) for i in group]
    )
    # Weaviate raises only when all fail.
    if answer.has_errors:
        first = next(iter(answer.errors.values())).message[:300]
        raise VectorStoreError(f"Weaviate refused {len(answer.errors)} of {len(group)} chunks: {first}")


def _fetch(alias: str, ids: Sequence[str], client: "WeaviateClient") -> dict[str, Chunk]:
    answer = client.collections.use(alias).query.fetch_objects_by_ids(list(ids), limit=GROUP)
    return {str(item.uuid): to_chunk(item) for item in answer.objects}


def _is_disconnect(error: Exception) -> bool:
    from weaviate.exceptions import (
        UnexpectedStatusCodeError,
        WeaviateBaseError,
        WeaviateConnectionError,
        WeaviateGRPCUnavailableError,
        WeaviateQueryError,
        WeaviateStartUpError,
        WeaviateTimeoutError,
    )

    if isinstance(error, UnexpectedStatusCodeError):
        return False
    if isinstance(error, WeaviateQueryError):
        return any(word in str(error) for word in ("UNAVAILABLE", "Deadline", "closed"))
    gone = (WeaviateConnectionError, WeaviateGRPCUnavailableError, WeaviateStartUpError, WeaviateTimeoutError)
    return isinstance(error, gone) or not isinstance(error, WeaviateBaseError)
