"""A generation whose pieces one thread puts and another takes."""

import queue
import threading
from collections.abc import Iterator

from deployments.llm.engines.ports import EngineError, Generation, Piece


class QueuedGeneration(Generation):
    """`ended` is set once nothing more is to be generated: the answer is whole, has failed, or was cancelled."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._pieces: queue.SimpleQueue[Piece | Exception | None] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[Piece]:
        while (piece := self._pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece
            if piece.finish_reason:
                return

    def put(self, piece: Piece) -> None:
        """Hands a piece to whoever iterates."""
        self._pieces.put(piece)

    def cancel(self) -> None:
        self.ended.set()
        self._pieces.put(None)

    def fail(self, error: Exception) -> None:
        """Ends the caller's iteration with an error."""
        known = isinstance(error, EngineError)
        self._pieces.put(error if known else EngineError(f"The generation failed: {error}"))
        self.ended.set()
