"""Weaviate behind the vector store's port.

It knows no embedding model and no document format. What Weaviate does silently wrong is checked here.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from shared.contracts import CHUNK_ALIAS, CHUNK_COLLECTION
from shared.vectors.port import (
    Chunk,
    EmbeddedChunk,
    ScoredChunk,
    VectorStore,
    VectorStoreError,
    check_vectors,
)

if TYPE_CHECKING:
    from weaviate import WeaviateClient
    from weaviate.collections import Collection

log = logging.getLogger(__name__)

GROUP = 200  # objects a call
FIELDS = ("uri", "content_hash", "source")  # compared whole, never by word
WORDS = ("title", "heading", "text")  # searched by BM25
ALPHA = 0.6  # weight of the vector in the hybrid search
Result = TypeVar("Result")


class WeaviateStore(VectorStore):
    """Connects at the first call and again after the server was away. A reader's key can search but not write."""

    def __init__(
        self, host: str, port: int, grpc_port: int, api_key: str, *, secure: bool = False, timeout: int = 30
    ) -> None:
        self._address = (host, port, grpc_port)
        self._api_key, self._secure, self._timeout = api_key, secure, timeout
        self._client: WeaviateClient | None = None

    def collection_exists(self) -> bool:
        return self._call(lambda client: client.alias.exists(alias_name=CHUNK_ALIAS))

    def create_collection(self) -> None:
        from weaviate.classes.config import Configure, DataType, Property, Tokenization, VectorDistances

        def create(client: "WeaviateClient") -> None:
            if not client.collections.exists(CHUNK_COLLECTION):
                field, word = Tokenization.FIELD, Tokenization.WORD
                client.collections.create(
                    CHUNK_COLLECTION,
                    vector_config=Configure.Vectors.self_provided(
                        vector_index_config=Configure.VectorIndex.hnsw(distance_metric=VectorDistances.COSINE)
                    ),
                    properties=[
                        *(
                            Property(
                                name=name, data_type=DataType.TEXT, tokenization=field, index_searchable=False
                            )
                            for name in FIELDS
                        ),
                        *(Property(name=name, data_type=DataType.TEXT, tokenization=word) for name in WORDS),
                        Property(name="position", data_type=DataType.INT),
                    ],
                )
            if not client.alias.exists(alias_name=CHUNK_ALIAS):
                client.alias.create(alias_name=CHUNK_ALIAS, target_collection=CHUNK_COLLECTION)

        self._call(create)

    def drop_collection(self) -> None:
        def drop(client: "WeaviateClient") -> None:
            alias = client.alias.get(alias_name=CHUNK_ALIAS)
            if alias:
                client.alias.delete(alias_name=CHUNK_ALIAS)
            # Deleting through the alias does nothing, silently.
            client.collections.delete(alias.collection if alias else CHUNK_COLLECTION)

        self._call(drop)

    def write(self, chunks: Sequence[EmbeddedChunk]) -> None:
        check_vectors(chunks)
        for start in range(0, len(chunks), GROUP):
            group = chunks[start : start + GROUP]
            # An object that a crash left half-indexed is healed only by deleting it first.
            self.delete([item.chunk.id for item in group])
            self._call(partial(_insert, group))

    def delete(self, ids: Sequence[str]) -> None:
        # By id: a kill during a deletion by filter leaves index and store disagreeing.
        for chunk_id in ids:
            self._call(partial(_delete, chunk_id))

    def get(self, ids: Sequence[str]) -> dict[str, Chunk]:
        found: dict[str, Chunk] = {}
        for start in range(0, len(ids), GROUP):
            found.update(self._call(partial(_fetch, ids[start : start + GROUP])))
        return found

    def iterate(self) -> Iterator[Chunk]:
        if not self.collection_exists():
            return
        for item in self._call(lambda client: _chunks_of(client).iterator(cache_size=1000)):
            yield _to_chunk(item)

    def search(self, text: str, vector: Sequence[float], limit: int) -> list[ScoredChunk]:
        from weaviate.classes.query import HybridFusion, MetadataQuery

        if not self.collection_exists():
            return []
        answer = self._call(
            lambda client: _chunks_of(client).query.hybrid(
                query=text,
                vector=list(vector),
                alpha=ALPHA,
                fusion_type=HybridFusion.RELATIVE_SCORE,
                query_properties=["title^2", "heading", "text"],
                limit=limit,
                return_metadata=MetadataQuery(score=True),
            )
        )
        return [ScoredChunk(_to_chunk(item), float(item.metadata.score or 0.0)) for item in answer.objects]

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _call(self, action: "Callable[[WeaviateClient], Result]") -> Result:
        from weaviate.exceptions import WeaviateBaseError

        fresh = self._client is None
        try:
            return action(self._connect())
        except WeaviateBaseError as error:
            if fresh or not _is_disconnect(error):
                raise VectorStoreError(self._explain(error)) from error
        # The server was restarted under us: once more with a new connection.
        self.close()
        try:
            return action(self._connect())
        except WeaviateBaseError as error:
            self.close()
            raise VectorStoreError(self._explain(error)) from error

    def _connect(self) -> "WeaviateClient":
        if self._client is None:
            import weaviate
            from weaviate.classes.init import AdditionalConfig, Auth, Timeout

            host, port, grpc_port = self._address
            client = weaviate.connect_to_custom(
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
            self._client = client
        return self._client

    def _explain(self, error: Exception) -> str:
        host, port, _ = self._address
        text = str(error)
        if any(word in text.lower() for word in ("401", "403", "permission_denied", "forbidden")):
            return (
                f"Weaviate at {host}:{port} refused the key: check weaviate_api_key and weaviate_reader_key."
            )
        return f"Weaviate at {host}:{port} failed: {text[:300]}"


def _chunks_of(client: "WeaviateClient") -> "Collection[Any, None]":
    return client.collections.use(CHUNK_ALIAS)


def _insert(group: Sequence[EmbeddedChunk], client: "WeaviateClient") -> None:
    from weaviate.classes.data import DataObject

    answer = _chunks_of(client).data.insert_many(
        [
            DataObject(uuid=i.chunk.id, properties=_to_properties(i.chunk), vector=list(i.vector))
            for i in group
        ]
    )
    # Weaviate raises only when all fail.
    if answer.has_errors:
        first = next(iter(answer.errors.values())).message[:300]
        raise VectorStoreError(f"Weaviate refused {len(answer.errors)} of {len(group)} chunks: {first}")


def _delete(chunk_id: str, client: "WeaviateClient") -> None:
    _chunks_of(client).data.delete_by_id(chunk_id)


def _fetch(ids: Sequence[str], client: "WeaviateClient") -> dict[str, Chunk]:
    answer = _chunks_of(client).query.fetch_objects_by_ids(list(ids), limit=GROUP)
    return {str(item.uuid): _to_chunk(item) for item in answer.objects}


def _is_disconnect(error: Exception) -> bool:
    from weaviate.exceptions import UnexpectedStatusCodeError, WeaviateConnectionError, WeaviateQueryError

    if isinstance(error, UnexpectedStatusCodeError):
        return False
    return isinstance(error, WeaviateConnectionError) or (
        isinstance(error, WeaviateQueryError)
        and any(word in str(error) for word in ("UNAVAILABLE", "Deadline", "closed"))
    )


def _to_properties(chunk: Chunk) -> dict[str, Any]:
    return {name: getattr(chunk, name) for name in (*FIELDS, *WORDS, "position")}


def _to_chunk(item: Any) -> Chunk:
    values = item.properties
    texts = {name: str(values.get(name) or "") for name in (*FIELDS, *WORDS)}
    return Chunk(id=str(item.uuid), position=int(values.get("position") or 0), **texts)
