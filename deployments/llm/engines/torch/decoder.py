"""The thread that decodes: answers of one model together, several models in turns of one token each.

It knows no HTTP, no tokenizer and no limit of a request; queue and batches are its own.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from deployments.llm.engines.limits import count_admitted
from deployments.llm.engines.ports import NotReadyError, QueueFullError
from deployments.llm.engines.torch.batch import Batch, TorchGeneration
from deployments.llm.engines.torch.device import release_memory
from deployments.llm.engines.torch.vocabulary import Vocabulary

log = logging.getLogger(__name__)

_STOP_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 2.0


class Decoder:
    """Takes generations in their order. `find_model` gives a model by its id, and may raise."""

    def __init__(
        self,
        find_model: Callable[[str], Any],
        vocabulary: Vocabulary,
        *,
        max_rows: int,
        max_tokens: int,
        max_queue: int,
    ) -> None:
        self._find_model, self._vocabulary = find_model, vocabulary
        self._max_rows, self._max_tokens, self._max_queue = max_rows, max_tokens, max_queue
        self._batches: dict[str, Batch] = {}
        self._waiting: deque[TorchGeneration] = deque()
        self._generations: list[TorchGeneration] = []  # that run or wait; the batches are the thread's own
        self._condition = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._decode_forever, name="decoder", daemon=True)
        self._thread.start()

    def add(self, generation: TorchGeneration) -> None:
        """Queues a generation. Raises QueueFullError or NotReadyError."""
        with self._condition:
            if self._closed:
                raise NotReadyError("The server is stopping.")
            self._generations = [other for other in self._generations if not other.ended.is_set()]
            if len(self._generations) >= self._max_queue:
                raise QueueFullError(f"{len(self._generations)} generations run or wait; try again later.")
            self._generations.append(generation)
            self._waiting.append(generation)
            self._condition.notify_all()

    def close(self) -> None:
        """Cancels what runs and waits, and ends the thread."""
        with self._condition:
            self._closed = True
            for generation in self._generations:
                generation.cancel()
            self._condition.notify_all()
        self._thread.join(
            _STOP_SECONDS
        )  # an interpreter must not end while torch computes in a thread of its own

    def _decode_forever(self) -> None:
        while not self._closed:
            with self._condition:
                idle = not self._condition.wait_for(self._has_work, _IDLE_SECONDS)
            if idle:
                release_memory()
            with self._condition:
                self._condition.wait_for(self._has_work)
                newcomers = self._admit()
            for model_id, rows in newcomers.items():
                self._guard(model_id, rows)
            for model_id in list(self._batches):
                self._guard(model_id, [])

    def _has_work(self) -> bool:
        return bool(self._waiting or self._batches or self._closed)

    def _admit(self) -> dict[str, list[TorchGeneration]]:
        """Takes as many waiting answers as there is room for, in their order, by model."""
        self._waiting = deque(one for one in self._waiting if not one.ended.is_set())
        count = count_admitted(
            [(one.request.model, one.length) for one in self._waiting],
            {model: [row.length for row in batch.rows] for model, batch in self._batches.items()},
            max_rows=self._max_rows,
            max_tokens=self._max_tokens,
        )
        admitted: dict[str, list[TorchGeneration]] = {}
        for _ in range(count):
            generation = self._waiting.popleft()
            admitted.setdefault(generation.request.model, []).append(generation)
        return admitted

    def _guard(self, model_id: str, newcomers: list[TorchGeneration]) -> None:
        """Lets newcomers join a model's batch, or takes one step; an error ends that batch alone."""
        batch = self._batches.get(model_id)
        try:
            if batch is None:
                batch = Batch(self._find_model(model_id), self._vocabulary)
                self._batches[model_id] = batch
            if newcomers:
                batch.join(newcomers)
            else:
                batch.step()
        except Exception as error:
            log.exception("A generation with %s failed", model_id)
            for row in {id(row): row for row in [*newcomers, *(batch.rows if batch else [])]}.values():
                row.fail(error)
            self._batches.pop(model_id, None)
            return
        if not batch.rows:
            del self._batches[model_id]
