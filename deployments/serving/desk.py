"""The desk: everything that the interface and the pages use, put together once.

It knows no vendor; `composition` chooses them.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from deployments.serving.errors import BadRequest, Unavailable
from deployments.serving.ingestion import find_last_ingestion
from deployments.serving.knowledge import KNOWN_WITHIN, Ingest, describe_knowledge, sync_knowledge
from deployments.serving.sign_in import SignIns
from deployments.serving.writer import Writer
from shared.contracts import SOURCE_NAME_RULE, is_source_name, source_asset
from shared.llm.port import Llm
from shared.registry.port import ModelRegistry
from shared.voice import Voice, VoiceError


@dataclass(frozen=True)
class Sync:
    """A run that was asked for, and the assets of the sources that it looks at."""

    run: str
    assets: list[str]


@dataclass(frozen=True)
class Desk:
    """Values and ports; built at start, connects on first use."""

    read_voice: Callable[[], Voice]  # raises VoiceError
    writer: Writer
    llm: Llm
    image_model: str
    registry: ModelRegistry
    sessions: sessionmaker[Session]
    ingest: Ingest
    knowledge_dir: Path
    sign_ins: SignIns
    endpoints: Mapping[str, tuple[str, int]] = field(default_factory=dict)  # what `/health` looks at
    links: Mapping[str, str] = field(default_factory=dict)  # other pages, shown at the foot

    def draw_picture(self, topic: str) -> bytes:
        """A picture for a post on this topic, in the voice's style. Raises LlmError and ServingError."""
        try:
            picture = self.read_voice().picture
        except VoiceError as error:
            raise Unavailable(f"The voice can't be used: {error}") from error
        return self.llm.draw(self.image_model, f"{topic}\n\nStyle: {picture.style}", size=picture.size)

    def describe_knowledge(self) -> dict[str, Any]:
        """What the knowledge base holds, and when ingest last ran. Raises SQLAlchemyError."""
        with self.sessions() as session:
            found = describe_knowledge(session)
        return found | find_last_ingestion(self.ingest)

    def sync(self, asked_by: str, *, accept: Sequence[str] = (), wait: float = KNOWN_WITHIN) -> Sync:
        """Start a run of ingest over every source there is. Raises ServingError.

        Each run looks at all folders: what became of a source that is gone, or can't be one, is in its outcome.
        `accept` holds digests of removals that may go; new folders are waited for, at most `wait` seconds.
        """
        try:
            names = sorted(os.listdir(self.knowledge_dir)) if self.knowledge_dir.is_dir() else []
            sources = [
                name for name in names if is_source_name(name) and os.path.isdir(self.knowledge_dir / name)
            ]
            if not sources and not accept:
                raise BadRequest(
                    f"There is no source: make a folder with documents under {self.knowledge_dir}/ "
                    f"({SOURCE_NAME_RULE})."
                )
            run = sync_knowledge(self.ingest, sources, asked_by, accept=accept, wait=wait)
        except (RuntimeError, OSError) as error:
            raise Unavailable(f"Ingest could not be asked to look: {error}") from error
        return Sync(run, [source_asset(source) for source in sources])
