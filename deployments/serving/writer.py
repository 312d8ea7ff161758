"""Writes one post: choose the model, retrieve, build the prompt, stream, record with its sources.

It knows no vendor, no HTTP and no page; everything it uses is handed in.
"""

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol
from uuid import uuid4

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from deployments.serving.errors import BadRequest, KnowledgeEmpty, NothingAnswers, Unavailable
from deployments.serving.models import ChosenModel, ModelChooser
from shared.ledger.models import Post, PostSource
from shared.llm.port import Llm, LlmError
from shared.prompt import PROMPT_VERSION, build_messages, choose_decoding
from shared.retrieval import Passage, Retrieval, retrieve
from shared.retrieval_settings import RetrievalSettings, RetrievalSettingsError
from shared.vectors.port import VectorStore, VectorStoreError
from shared.voice import Voice, VoiceError

log = logging.getLogger(__name__)

MAX_TOPIC_CHARACTERS = 300
FILL_KNOWLEDGE = (
    "The knowledge base is empty, so there is nothing to write from. Put documents into content/knowledge/ and press "
    "“Sync now” on the Knowledge page, or run `ghostwriter knowledge sync`; the first ingestion takes about a minute."
)
WRITTEN_ANYWAY = (
    "Nothing in the knowledge answers this topic: this is written from what comes nearest, so check it."
)


@dataclass(frozen=True)
class Sources:
    """What the post will be written with and from; comes first."""

    model: ChosenModel
    chunks: tuple[Passage, ...]


@dataclass(frozen=True)
class Piece:
    """The next piece of the text."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The post as it was recorded; comes last."""

    post: Post
    model: ChosenModel


Event = Sources | Piece | Finished


class RunLog(Protocol):
    """Where the writer says that a run started, completed or failed; never a reason to fail itself."""

    def start(self, run_id: str) -> None: ...
    def complete(self, run_id: str, post: Post) -> None: ...
    def fail(self, run_id: str, reason: str) -> None: ...


class Writer:
    """One for the process; `write` may run in many threads at once."""

    def __init__(
        self,
        *,
        read_voice: Callable[[], Voice],
        read_retrieval: Callable[[], RetrievalSettings],
        llm: Llm,
        embedding_model: str,
        store: VectorStore,
        models: ModelChooser,
        sessions: sessionmaker[Session],
        runs: RunLog,
    ) -> None:
        self._read_voice, self._read_retrieval = read_voice, read_retrieval
        self._llm, self._embedding_model = llm, embedding_model
        self._store, self._models, self._sessions, self._runs = store, models, sessions, runs

    @property
    def champion_is_lost(self) -> bool:
        """Whether the provider didn't know the champion when a post last asked for it."""
        return self._models.champion_is_lost

    def write(
        self,
        topic: str,
        model: str = "champion",
        author: str = "admin",
        *,
        allow_unsupported: bool = False,
    ) -> Iterator[Event]:
        """Sources, then pieces, then the recorded post. Closing it early records nothing. Raises ServingError.

        A topic that nothing in the knowledge answers raises NothingAnswers; with `allow_unsupported` the post is
        written from what comes nearest, and its model's note says so.
        """
        topic = check_topic(topic)
        try:
            voice = self._read_voice()  # as it is now: training reads it afresh too
        except VoiceError as error:
            raise Unavailable(f"The voice can't be used: {error}") from error
        try:
            settings = self._read_retrieval()
        except RetrievalSettingsError as error:
            raise Unavailable(f"The settings of the search can't be used: {error}") from error
        chosen = self._models.choose(model)
        post_id = str(uuid4())
        started = perf_counter()
        self._runs.start(post_id)
        try:
            found = self._retrieve(topic, settings, voice.retrieval.top_k)
            if not found.answered:
                if not allow_unsupported:
                    raise NothingAnswers(describe_nearest(found.passages))
                chosen = replace(chosen, note=" ".join(filter(None, (chosen.note, WRITTEN_ANYWAY))))
            yield Sources(chosen, found.passages)
            post = yield from self._write(post_id, topic, voice, chosen, author, started, found.passages)
        except GeneratorExit:
            self._runs.fail(post_id, "interrupted by the reader")
            log.info("post %s: interrupted after %.1f s, nothing recorded", post_id, perf_counter() - started)
            raise
        except LlmError as error:
            self._runs.fail(post_id, "language model unavailable")
            raise Unavailable(f"The language model can't answer: {error}") from error
        except VectorStoreError as error:
            self._runs.fail(post_id, "vector store unavailable")
            raise Unavailable(f"The knowledge base can't be searched: {error}") from error
        except SQLAlchemyError as error:
            self._runs.fail(post_id, "ledger unavailable")
            raise Unavailable(
                "The post could not be recorded in the ledger (Postgres); nothing was kept."
            ) from error
        except Exception as error:
            self._runs.fail(post_id, type(error).__name__)
            raise
        self._runs.complete(post_id, post)
        log.info(
            "post %s: %d words from %d chunks by %s in %.1f s",
            post_id, len(post.text.split()), len(post.sources), chosen.model_id, post.seconds,
        )  # fmt: skip
        yield Finished(post, chosen)

    def _retrieve(self, topic: str, settings: RetrievalSettings, top_k: int) -> Retrieval:
        found = retrieve(
            topic,
            llm=self._llm,
            embedding_model=self._embedding_model,
            store=self._store,
            sessions=self._sessions,
            settings=settings,
            top_k=top_k,
        )
        if not found.passages:
            raise KnowledgeEmpty(FILL_KNOWLEDGE)
        return found

    def _write(
        self,
        post_id: str,
        topic: str,
        voice: Voice,
        chosen: ChosenModel,
        author: str,
        started: float,
        chunks: Sequence[Passage],
    ) -> Generator[Event, None, Post]:
        messages = build_messages(voice, topic, [hit.chunk for hit in chunks])
        pieces: list[str] = []
        stream = self._llm.stream_chat(chosen.model_id, messages, choose_decoding(voice))
        with closing(stream):  # type: ignore[type-var]  # every adapter is a generator: closing stops the generation
            for piece in stream:
                pieces.append(piece)
                yield Piece(piece)
        text = "".join(pieces).replace("\0", "").strip()
        if not text:
            raise LlmError(
                f"{chosen.model_id} answered with an empty text; try again or choose another model."
            )

        post = Post(
            id=post_id,
            topic=topic,
            text=text,
            model_name=chosen.name,
            model_version=chosen.version,
            model_alias=chosen.alias,
            model_id=chosen.model_id,
            prompt_version=PROMPT_VERSION,
            seconds=round(perf_counter() - started, 3),
            author=author,
            sources=[_make_source(rank, hit) for rank, hit in enumerate(chunks, 1)],
        )
        with self._sessions.begin() as session:
            session.add(post)
        return post


def check_topic(topic: str) -> str:
    """The topic on one line; raises BadRequest for an empty, over-long or unprintable one."""
    topic = " ".join(topic.split())
    if not topic:
        raise BadRequest("The topic is empty. Say in a few words what the post should be about.")
    if len(topic) > MAX_TOPIC_CHARACTERS:
        raise BadRequest(
            f"The topic has {len(topic)} characters; at most {MAX_TOPIC_CHARACTERS}. The facts come from the knowledge "
            "base: a few words are enough."
        )
    if not topic.isprintable():
        raise BadRequest("The topic holds characters that can't be printed. Type it as plain text.")
    return topic


def describe_nearest(passages: Sequence[Passage]) -> str:
    """What a person is told of a topic that nothing answers."""
    titles = dict.fromkeys(passage.chunk.title for passage in passages)
    nearest = " and ".join(f"“{title}”" for title in titles)
    return f"Nothing in the knowledge answers this topic. What comes nearest is {nearest}."


def _make_source(rank: int, hit: Passage) -> PostSource:
    chunk = hit.chunk
    return PostSource(
        rank=rank,
        uri=chunk.uri,
        content_hash=chunk.content_hash,
        chunk_id=chunk.id,
        title=chunk.title,
        text=chunk.text,
        score=float(hit.score),
    )
