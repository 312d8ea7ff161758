"""Who goes away while many texts are computed leaves nothing running for long."""

import asyncio
import json

import pytest
from fastapi import FastAPI
from starlette.types import Message

from deployments.llm.engines.fakes import FakeEmbeddingEngine, FakeRerankEngine
from deployments.llm.errors import install_error_handlers
from deployments.llm.routes.embeddings import embeddings_router
from deployments.llm.routes.rerank import rerank_router
from shared import contracts
from tests.asgi_call import Call


class StayingCall(Call):
    """A client that sends its body and waits."""

    async def _receive(self) -> Message:
        if self.taken:
            return await self._idle()
        body = next(self._chunks)
        self.taken = len(body)
        return {"type": "http.request", "body": body, "more_body": False}

    async def _idle(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError


class GoneCall(StayingCall):
    """A client that sends its body and is gone."""

    async def _idle(self) -> Message:
        return {"type": "http.disconnect"}


class CountingEmbeddings(FakeEmbeddingEngine):
    """Knows how many texts it was given."""

    count = 0

    def embed(self, model, inputs):
        self.count += len(inputs)
        return super().embed(model, inputs)


class CountingReranker(FakeRerankEngine):
    """Knows how many documents it was given."""

    count = 0

    def rerank(self, query, documents, max_document_tokens=None):
        self.count += len(documents)
        return super().rerank(query, documents, max_document_tokens)


TEXTS = [f"text {number}" for number in range(1000)]
EMBED = {"model": contracts.LOCAL_EMBEDDING_MODEL, "input": TEXTS}
RERANK = {"model": contracts.LOCAL_RERANK_MODEL, "query": "text", "documents": TEXTS}


@pytest.mark.parametrize(
    ("engine", "make_router", "path", "body"),
    [
        (CountingEmbeddings(), embeddings_router, "/embeddings", EMBED),
        (CountingReranker(), rerank_router, "/rerank", RERANK),
    ],
)
@pytest.mark.parametrize("call", [GoneCall, StayingCall])
def test_a_gone_clients_texts_are_not_computed(engine, make_router, path, body, call):
    app = FastAPI()
    app.include_router(make_router(engine))
    install_error_handlers(app)
    engine.load()
    engine.count = 0
    call(app, path, [json.dumps(body).encode()], {"Content-Type": b"application/json"})
    assert engine.count == 1000 if call is StayingCall else 0 < engine.count < 300
