"""`POST /v1/rerank`, in the shape that Jina, Cohere and vLLM share; also at `/rerank` and `/v2/rerank`, where they ask.

It knows no model: the engine tells the logits.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar
from uuid import uuid4

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, Field
from starlette.concurrency import run_in_threadpool

from deployments.llm.engines.ports import RerankEngine
from deployments.llm.errors import model_not_found
from deployments.llm.routes.strict_body import StrictBody, refuse


def check_text(text: str) -> str:
    """The text, where it can be sent back."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise refuse("A text holds half a surrogate pair, which is no character.") from None
    return text


Text = Annotated[str, AfterValidator(check_text)]


class Document(StrictBody):
    """A document as an object; its other fields are not read, so there are none."""

    text: Text


class RerankBody(StrictBody):
    """The request body. An empty document is ranked like any other; what is too long is cut at its end."""

    refused: ClassVar[Mapping[str, str]] = {
        "rank_fields": "only a document's `text` is read.",
        "max_chunks_per_doc": "a document is one chunk; what is too long is cut.",
    }

    model: str
    query: Annotated[Text, Field(min_length=1)]
    documents: Annotated[list[Text | Document], Field(min_length=1, max_length=1000)]
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool | None = None
    max_tokens_per_doc: int | None = Field(default=None, ge=1)

    @property
    def texts(self) -> list[str]:
        """The documents' texts."""
        return [one if isinstance(one, str) else one.text for one in self.documents]


class RankedText(BaseModel):
    """A document in an answer."""

    text: str


class RankedDocument(BaseModel):
    """`index` is the document's place in the request. `relevance_score` is the logit between 0 and 1; the logit itself
    is above zero where the document likely answers, and where all are far below nothing does."""

    index: int
    relevance_score: float
    logit: float
    document: RankedText | None = None


class RerankAnswer(BaseModel):
    """Best first. `usage` is Jina's and vLLM's, `meta` is Cohere's."""

    id: str
    model: str
    results: list[RankedDocument]
    usage: dict[str, int]
    meta: dict[str, dict[str, int]]


def rerank_router(engine: RerankEngine) -> APIRouter:
    """The route over an engine."""
    router = APIRouter()

    @router.post("/rerank", response_model_exclude_unset=True)
    async def rerank(body: RerankBody) -> RerankAnswer:
        if body.model != engine.rerank_model:
            raise model_not_found(body.model)
        texts = body.texts
        ranking = await run_in_threadpool(engine.rerank, body.query, texts, body.max_tokens_per_doc)
        logits, tokens = ranking.logits, ranking.prompt_tokens
        results = [
            describe(index, logits[index], texts[index], body) for index in order(logits)[: body.top_n]
        ]
        usage: dict[str, Any] = {"prompt_tokens": tokens, "total_tokens": tokens}
        meta = {"tokens": {"input_tokens": tokens}, "billed_units": {"total_tokens": tokens}}
        return RerankAnswer(
            id=f"rerank-{uuid4().hex}", model=body.model, results=results, usage=usage, meta=meta
        )

    return router


def order(logits: list[float]) -> list[int]:
    """Places, the highest logit's first; equal ones stay in order."""
    return sorted(range(len(logits)), key=lambda index: -logits[index])


def describe(index: int, logit: float, text: str, body: RerankBody) -> RankedDocument:
    """One result. Documents come back unless they are not wanted, as Jina and vLLM do it."""
    # The sigmoid, in a form that does not overflow.
    score = (1 + math.tanh(logit / 2)) / 2
    if body.return_documents is False:
        return RankedDocument(index=index, relevance_score=score, logit=logit)
    return RankedDocument(index=index, relevance_score=score, logit=logit, document=RankedText(text=text))
