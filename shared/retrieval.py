"""Finds the passages that a topic's post is written from, and says whether they answer it at all.

It knows no vendor: provider, store and ledger are handed in.
"""

import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from sqlalchemy.orm import Session, sessionmaker

from shared.knowledge import select_visible
from shared.llm.port import Llm, LlmRefusedError
from shared.retrieval_settings import Rerank, RetrievalSettings
from shared.vectors.port import Chunk, ScoredChunk, VectorStore

log = logging.getLogger(__name__)

Select = Callable[[Session, Sequence[ScoredChunk]], list[ScoredChunk]]
ROUNDS = 3  # of asking the store, each for four times as many, where too much of what it finds is outdated
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class Passage:
    """A chunk that was found.

    `score` is from 0 to 1 and can be compared between topics: the reranker's probability that the passage answers, or
    the vectors' cosine where nothing was reranked.
    """

    chunk: Chunk
    score: float
    fused: float  # by which the store ranked it, within one search
    cosine: float
    logit: float | None = None
    also_in: tuple[str, ...] = ()  # URIs of other documents that say the same


@dataclass(frozen=True)
class Retrieval:
    """What was found, best first. Where nothing answers the topic, the passages are the nearest that there are."""

    passages: tuple[Passage, ...]
    answered: bool
    relevance: float  # of the best passage; 0 where there is none
    reranked: bool


def retrieve(
    topic: str,
    *,
    llm: Llm,
    embedding_model: str,
    store: VectorStore,
    sessions: sessionmaker[Session],
    settings: RetrievalSettings,
    top_k: int,
    select: Select = select_visible,
) -> Retrieval:
    """The `top_k` best passages for a topic, at most one a document while enough documents match.

    Only what `select` lets through is found: what the ledger says is current. Raises LlmError,
    VectorStoreError and SQLAlchemyError.
    """
    embedding = settings.find_embedding(embedding_model)
    (vector,) = llm.embed(embedding_model, [embedding.instruction + topic])
    candidates = max(settings.rerank.candidates, top_k)

    def look(limit: int) -> tuple[list[ScoredChunk], list[ScoredChunk]]:
        hits = store.search(topic, vector, limit, alpha=embedding.alpha)
        with sessions() as session:
            return hits, select(session, hits)

    hits = _search(look, settings.search.hits, candidates)
    found = merge_alike([_to_passage(hit) for hit in hits], settings.passages.likeness)
    read = spread(found, candidates, max(2, candidates // top_k))
    logits = _rerank(topic, read, llm, settings.rerank)
    least, enough = embedding.least_relevance, 0.0
    if logits is not None:
        # What was not read again has no score that could be compared with these.
        found = [
            replace(passage, logit=logit, score=_to_probability(logit))
            for passage, logit in zip(read, logits, strict=True)
        ]
        found.sort(key=lambda passage: -passage.score)
        least = enough = settings.rerank.least_relevance
    relevance = max((passage.score for passage in found), default=0.0)
    chosen = fit_budget(pick_diverse(found, top_k, enough), settings.passages.max_tokens)
    answered = bool(chosen) and relevance >= least
    log.info(
        "%d hits, %d different, %d chosen, relevance %.3f by %s: %s",
        len(hits), len(found), len(chosen), relevance, "vector" if logits is None else settings.rerank.model,
        "answered" if answered else "nothing answers",
    )  # fmt: skip
    return Retrieval(tuple(chosen), answered, relevance, logits is not None)


def pick_diverse(passages: Sequence[Passage], top_k: int, enough: float = 0.0) -> list[Passage]:
    """The best of each document first; further ones of the same documents fill what is left. The order stays.

    A second passage of a document goes before another document whose best has a score below `enough`.
    """
    seen: set[str] = set()
    ranks: list[tuple[bool, bool, int]] = []
    for place, passage in enumerate(passages):
        ranks.append((passage.score < enough, passage.chunk.uri in seen, place))
        seen.add(passage.chunk.uri)
    return [passages[place] for place in sorted(place for *_, place in sorted(ranks)[:top_k])]


def spread(passages: Sequence[Passage], count: int, per_document: int) -> list[Passage]:
    """The first so many, with no more of one document than that while there are others. The order stays."""
    seen: Counter[str] = Counter()
    ranks: list[tuple[bool, int]] = []
    for place, passage in enumerate(passages):
        ranks.append((seen[passage.chunk.uri] >= per_document, place))
        seen[passage.chunk.uri] += 1
    return [passages[place] for place in sorted(place for _, place in sorted(ranks)[:count])]


def merge_alike(passages: Iterable[Passage], likeness: float) -> list[Passage]:
    """Of passages that say the same, or nearly, the first alone; it names the documents of the others."""
    kept: list[Passage] = []
    shapes: list[tuple[str, frozenset[tuple[str, ...]]]] = []
    for passage in passages:
        shape = _describe_text(passage.chunk.text)
        twin = next((place for place, other in enumerate(shapes) if _are_alike(shape, other, likeness)), None)
        if twin is None:
            kept.append(passage)
            shapes.append(shape)
            continue
        known = (kept[twin].chunk.uri, *kept[twin].also_in)
        if passage.chunk.uri not in known:
            kept[twin] = replace(kept[twin], also_in=(*kept[twin].also_in, passage.chunk.uri))
    return kept


def fit_budget(passages: Sequence[Passage], max_tokens: int) -> list[Passage]:
    """As many as fit, in order; the first always, so that a prompt is never without."""
    kept: list[Passage] = []
    tokens = 0
    for passage in passages:
        # To ask the provider's tokenizer would be a request for each passage.
        needed = math.ceil(len(passage.chunk.title + passage.chunk.text) / CHARACTERS_PER_TOKEN)
        if kept and tokens + needed > max_tokens:
            continue
        kept.append(passage)
        tokens += needed
    return kept


def cut_window(query: str, text: str, characters: int) -> str:
    """Of a text that is longer, the part of so many characters that shares most words with the query."""
    if len(text) <= characters:
        return text
    wanted = set(_list_words(query))

    def count(start: int) -> int:
        return len(wanted.intersection(_list_words(text[start : start + characters])))

    step = max(1, characters // 4)
    last = len(text) - characters
    best = max([*range(0, last, step), last], key=count)  # the first of equals
    window = text[best : best + characters]
    if best and not text[best - 1].isspace():  # begins within a word
        window = window.partition(" ")[2] or window
    return window.strip()


def _search(
    look: Callable[[int], tuple[list[ScoredChunk], list[ScoredChunk]]], limit: int, wanted: int
) -> list[ScoredChunk]:
    """What may be seen of the store's best hits."""
    visible: list[ScoredChunk] = []
    for _ in range(ROUNDS):
        hits, visible = look(limit)
        if len(visible) >= wanted or len(hits) < limit or len(visible) == len(hits):
            break
        limit *= 4
    return visible


def _rerank(topic: str, passages: Sequence[Passage], llm: Llm, settings: Rerank) -> list[float] | None:
    """A logit per passage, or None where nothing can be reranked."""
    if not settings.model or not passages:
        return None
    texts = [
        "\n".join(
            filter(
                None, (chunk.title, chunk.heading, cut_window(topic, chunk.text, settings.window_characters))
            )
        )
        for chunk in (passage.chunk for passage in passages)
    ]
    try:
        return llm.rerank(settings.model, topic, texts)
    except LlmRefusedError as error:
        _say_once(f"Passages are not reranked: {error}")
        return None


@cache
def _say_once(message: str) -> None:
    log.warning(message)


def _to_passage(hit: ScoredChunk) -> Passage:
    return Passage(hit.chunk, min(max(hit.cosine, 0.0), 1.0), hit.score, hit.cosine)


def _to_probability(logit: float) -> float:
    return (1 + math.tanh(logit / 2)) / 2  # the sigmoid, in a form that does not overflow


def _list_words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _describe_text(text: str) -> tuple[str, frozenset[tuple[str, ...]]]:
    """Its words, and its word triples."""
    words = _list_words(text)
    return " ".join(words) or text, frozenset(zip(words, words[1:], words[2:], strict=False))


def _are_alike(
    one: tuple[str, frozenset[tuple[str, ...]]],
    other: tuple[str, frozenset[tuple[str, ...]]],
    likeness: float,
) -> bool:
    if one[0] == other[0]:
        return True
    few, many = sorted((one[1], other[1]), key=len)
    if len(few) < likeness * len(many) or not few:  # most pairs end here
        return False
    return len(few & many) >= likeness * len(few | many)
