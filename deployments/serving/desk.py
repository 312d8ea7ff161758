"""The desk: everything that the interface and the pages use, put together once.

It knows no vendor; `composition` chooses them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from deployments.serving.errors import Unavailable
from deployments.serving.ingestion import find_last_ingestion
from deployments.serving.knowledge import Ingest, describe_knowledge, sync_knowledge
from deployments.serving.sign_in import SignIns
from deployments.serving.writer import Writer
from shared.llm.port import Llm
from shared.registry.port import ModelRegistry
from shared.voice import Voice, VoiceError


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

    def sync(self, asked_by: str, *, accept: Sequence[str] = ()) -> str:
        """The id of a run of ingest, which looks at every source there is. Raises ServingError.

        What became of a source that is gone, or can't be one, is in its outcome. `accept` holds digests of removals
        that may go.
        """
        try:
            return sync_knowledge(self.ingest, asked_by, accept=accept)
        except (RuntimeError, OSError) as error:
            raise Unavailable(f"Ingest could not be asked to look: {error}") from error
