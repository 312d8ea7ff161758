"""`python -m benchmarks.retrieval [--write]`: how well and how fast the bundled knowledge is found, setting by setting.

It starts an LLM server and a Weaviate of its own, asks every question of content/questions.jsonl by the search that
posts are written from, and asserts nothing. Run it on a machine that does nothing else.
"""

import argparse
import hashlib
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy.orm import Session, sessionmaker

from benchmarks.llm_server import run_server
from benchmarks.weaviate_server import Connect, run_weaviate
from deployments.ingest.formats.registry import find_extractor
from deployments.ingest.measuring import build_find
from deployments.ingest.quality import (
    Find,
    Finding,
    Quality,
    Question,
    compare,
    load_questions,
    measure,
)
from deployments.ingest.recipe import describe_recipe
from deployments.ingest.splitting import split
from shared.contracts import LOCAL_EMBEDDING_MODEL as MINILM
from shared.contracts import chunk_id, document_uri
from shared.ledger.models import Base, DocumentVersion
from shared.ledger.sessions import create_sessions
from shared.llm.openai import OpenAiLlm
from shared.retrieval_settings import RetrievalSettings, load_retrieval_settings
from shared.vectors.port import Chunk, EmbeddedChunk, VectorStore

CONTENT: Final = Path("content")
PAGE: Final = Path("docs/benchmarks.md")
BEGIN, END = "<!-- benchmarks.retrieval: begin -->", "<!-- benchmarks.retrieval: end -->"
BGE: Final = "bge-small-en-v1.5"
DIMENSIONS: Final = 384  # of both models
WARM_UP: Final = "How does a deferrable operator wait?"


@dataclass(frozen=True)
class Row:
    """A setting, and what came of it."""

    name: str
    quality: Quality
    seconds: Sequence[float]  # a question, embedding included

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class Wordless(OpenAiLlm):
    """For a search by words alone: every question has the same vector, which costs nothing."""

    def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        return [[1.0] + [0.0] * (DIMENSIONS - 1) for _ in texts]


def read_knowledge(folder: Path) -> list[Chunk]:
    """The passages of the bundled documents, as ingest makes them."""
    chunks = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        uri, digest = document_uri(path.parent.name, path.name), hashlib.sha256(content).hexdigest()
        extractor = find_extractor(path.name, "", content)
        extraction, recipe = extractor.extract(content, path.name), describe_recipe(extractor)
        for number, passage in enumerate(split(extraction)):
            chunks.append(
                Chunk(
                    chunk_id(uri, digest, number, recipe), uri, digest, number, path.parent.name,
                    extraction.title or path.stem, " › ".join(passage.headings), passage.text, recipe,
                )
            )  # fmt: skip
    return chunks


def fill(store: VectorStore, chunks: Sequence[Chunk], llm: OpenAiLlm, model: str) -> None:
    """Embed title, headings and text, and write them."""
    texts = ["\n".join(filter(None, (chunk.title, chunk.heading, chunk.text))) for chunk in chunks]
    store.create_collection()
    vectors = llm.embed(model, texts)
    store.write([EmbeddedChunk(chunk, vector) for chunk, vector in zip(chunks, vectors, strict=True)])


def record(sessions: sessionmaker[Session], chunks: Sequence[Chunk]) -> None:
    """The documents as current versions."""
    Base.metadata.create_all(sessions.kw["bind"])
    with sessions.begin() as session:
        for chunk in {chunk.uri: chunk for chunk in chunks}.values():
            session.add(
                DocumentVersion(
                    uri=chunk.uri, source=chunk.source, title=chunk.title, content_hash=chunk.content_hash, size=1,
                    chunks=1, ingest_run="benchmark", recipe=chunk.recipe,
                )
            )  # fmt: skip


def choose_settings(model: str, *, alpha: float | None = None, reranked: bool = False) -> RetrievalSettings:
    """The bundled ones, with or without reranking; `alpha` other than the model's own."""
    given = load_retrieval_settings(CONTENT / "retrieval.toml")
    embedding = given.find_embedding(model)
    if alpha is not None:
        embedding = embedding.model_copy(update={"alpha": alpha})
    rerank = given.rerank if reranked else given.rerank.model_copy(update={"model": ""})
    return given.model_copy(update={"rerank": rerank, "embedding": {model: embedding}})


def ask(name: str, questions: Sequence[Question], find: Find) -> Row:
    """Ask everything once, after one that warms up."""
    find(WARM_UP)
    seconds: list[float] = []

    def timed(question: str) -> Finding:
        started = time.perf_counter()
        found = find(question)
        seconds.append(time.perf_counter() - started)
        return found

    return Row(name, measure(questions, timed), seconds)


def measure_all(url: str, key: str, connect: Connect, sessions: sessionmaker[Session]) -> list[Row]:
    """Words, vectors, both, and both read again by the reranker, with either embedding model."""
    questions = load_questions(CONTENT / "questions.jsonl")
    chunks = read_knowledge(CONTENT / "knowledge")
    record(sessions, chunks)
    llm, wordless = OpenAiLlm(url, key), Wordless(url, key)
    rows: list[Row] = []
    for model, name in ((MINILM, "MiniLM"), (BGE, "bge-small")):
        store = connect(name.replace("-", "_").capitalize())
        fill(store, chunks, llm, model)

        def find(llm: OpenAiLlm, settings: RetrievalSettings, model: str = model, store: Any = store) -> Find:
            return build_find(
                llm=llm, embedding_model=model, store=store, sessions=sessions, settings=settings
            )

        if not rows:
            rows.append(ask("BM25", questions, find(wordless, choose_settings(model, alpha=0))))
        rows.append(ask(f"{name}, vector", questions, find(llm, choose_settings(model, alpha=1))))
        rows.append(ask(f"{name}, hybrid", questions, find(llm, choose_settings(model))))
        rows.append(
            ask(f"{name}, hybrid, reranked", questions, find(llm, choose_settings(model, reranked=True)))
        )
        store.close()
    return rows


def write_table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, each beside the first."""
    head = [
        "| | nDCG@10 | recall@5 | MRR | refused of the unanswerable | right of the refused | p50, ms | p95, ms "
        "| nDCG gained per 100 ms | p |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    base = rows[0]
    lines = []
    for row in rows:
        quality, milliseconds = row.quality, [second * 1000 for second in row.seconds]
        by_words = row is base
        refused = (
            ("", "") if by_words else (f"{quality.refusal_recall:.2f}", f"{quality.refusal_precision:.2f}")
        )
        extra = (row.median - base.median) * 10  # in 100 ms
        gained = "" if by_words else f"{(quality.ndcg - base.quality.ndcg) / extra:+.3f}"
        luck = "" if by_words else _describe_luck(compare(base.quality, quality).p)
        figures = (
            f"{quality.ndcg:.3f}", f"{quality.recall:.3f}", f"{quality.rr:.3f}", *refused,
            f"{statistics.median(milliseconds):.0f}", f"{statistics.quantiles(milliseconds, n=20)[-1]:.0f}",
            gained, luck,
        )  # fmt: skip
        lines.append(f"| {row.name} | {' | '.join(figures)} |")
    return "\n".join([*head, *lines])


def describe(rows: Sequence[Row]) -> str:
    """What was asked, and whether reranking and the other model are more than luck."""
    by_name = {row.name: row.quality for row in rows}
    first = rows[0].quality
    pairs = [
        ("MiniLM, hybrid", "MiniLM, hybrid, reranked"),
        ("bge-small, hybrid", "bge-small, hybrid, reranked"),
        ("MiniLM, hybrid", "bge-small, hybrid"),
        ("MiniLM, hybrid, reranked", "bge-small, hybrid, reranked"),
    ]
    told = []
    for old, new in pairs:
        found = compare(by_name[old], by_name[new])
        told.append(f"- {new} against {old}: nDCG@10 {found.difference:+.3f}, p {_describe_luck(found.p)}")
    return (
        f"{first.answerable} questions with an answer and {first.unanswerable} without, each asked once, alone. "
        "The gain is over BM25, for each 100 ms more than it takes; p is of a paired randomisation test against it.\n\n"
        + "\n".join(told)
    )


def _describe_luck(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def put_block(page: Path, block: str) -> None:
    """Put it between the page's marks, or at its end where it has none."""
    text = page.read_text("utf-8") if page.exists() else "# Benchmarks\n"
    marked = f"{BEGIN}\n{block}\n{END}"
    before, begun, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    whole = before + marked + after if begun and ended else f"{text.rstrip()}\n\n{marked}\n"
    page.write_text(whole, "utf-8")


def main() -> int:
    """Measure, print, and write it into the docs where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE}")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers end with it
    with tempfile.TemporaryDirectory() as folder, run_server() as server, run_weaviate() as connect:
        key = server.client.headers["Authorization"].removeprefix("Bearer ")
        url = f"{str(server.client.base_url).rstrip('/')}/v1"
        rows = measure_all(url, key, connect, create_sessions(f"sqlite:///{folder}/ledger.db"))
    block = f"{write_table(rows)}\n\n{describe(rows)}"
    print(block)
    if given.write:
        put_block(PAGE, block)
    return 0


if __name__ == "__main__":
    sys.exit(main())
