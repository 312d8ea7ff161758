"""An encoder in memory: rows of tokens go in, numbers come out, batch by batch and in turns.

It knows no text.
"""

import ctypes
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from deployments.llm.engines.onnx.batching import Turns, plan_batches
from deployments.llm.engines.onnx.folder import ModelFolder
from deployments.llm.engines.onnx.tokens import Ids
from deployments.llm.engines.ports import NotReadyError
from deployments.llm.engines.weights import WeightsMissingError

log = logging.getLogger(__name__)

Floats = np.ndarray[Any, np.dtype[np.float32]]

_BATCH_TOKENS: Final = 512
"""More is no faster, but takes more memory."""
_ROW: Final = 1
_DYNAMIC: Final = b"DynamicQuantizeLinear"
"""An operator that scales int8 numbers by the largest of its whole input: rows of one batch would change each other's
vectors (cosines of 0.995 seen). Such a model gets each row alone, at no loss of speed from some 50 tokens on."""
_TRIM_FROM: Final = 16
_MOST_THREADS: Final = 8
_DESCRIBING: Final = 120.0
_INPUTS: Final = frozenset({"input_ids", "attention_mask", "token_type_ids"})


class Encoder:
    """One model's session. Whoever calls it from several threads has each batch computed in turn."""

    def __init__(self, folder: ModelFolder, threads: int) -> None:
        """Loads it; blocks for a second. Raises WeightsMissingError for what can't be computed."""
        self._turns = Turns()
        description = _describe(folder.weights, folder.path / "config.json")
        self._batch_tokens = _ROW if _DYNAMIC in description else _BATCH_TOKENS
        self._session: Any = _open_session(folder, description, threads)
        inputs = {one.name for one in self._session.get_inputs()}
        if unknown := inputs - _INPUTS:
            raise WeightsMissingError(
                f"{folder.weights} wants inputs not known here: {', '.join(sorted(unknown))}."
            )
        self._inputs = inputs
        outputs = {one.name: len(one.shape or []) for one in self._session.get_outputs()}
        # Each token's state where the model tells it, else what it makes of them itself.
        self._output = min(outputs, key=lambda name: (outputs[name] != 3, list(outputs).index(name)))
        self.per_token = outputs[self._output] == 3

    def compute(self, rows: Sequence[tuple[Ids, Ids | None]], pool: Any) -> list[Floats]:
        """What `pool` makes of each row's output and mask, in the order given; rows are tokens and segments.

        Raises NotReadyError once it is closed, and QueueFullError where no turn comes.
        """
        results: list[Any] = [None] * len(rows)
        batches = plan_batches([len(ids) for ids, _ in rows], self._batch_tokens)
        for batch in batches:
            feed = _pad([rows[index] for index in batch])
            mask = feed["attention_mask"]
            with self._turns.take():
                session = self._session
                if session is None:
                    raise NotReadyError("The server is stopping.")
                output = session.run([self._output], {name: feed[name] for name in self._inputs})[0]
            for index, row in zip(batch, pool(output, mask), strict=True):
                results[index] = row
        if len(batches) >= _TRIM_FROM:
            release_memory()
        return results

    def close(self) -> None:
        """Frees it; what is being computed ends first."""
        self._session = None


def choose_threads(configured: int, cores: int | None = None) -> int:
    """As configured; else half the cores, but two where there are, as embedding is what an ingest waits for."""
    cores = cores or os.cpu_count() or 1
    return configured or min(max(cores // 2, min(cores, 2)), _MOST_THREADS)


def release_memory() -> None:
    """Hands what is free back to the system; glibc keeps what loading or a long request needed."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # no other libc needs it
    if trim is not None:
        trim(0)


def _open_session(folder: ModelFolder, description: bytes, threads: int) -> Any:
    started = time.monotonic()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # The arena keeps the largest batch's memory for ever.
    options.enable_cpu_mem_arena = False
    # Threads that wait must not burn what the chat engine and a training need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Resolved: a hub's snapshot consists of links, which must not lead out of the folder of the weights.
    weights = folder.weights.resolve()
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(weights.parent)
    )
    try:
        session = onnxruntime.InferenceSession(description, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises no narrower one
        raise WeightsMissingError(f"{folder.weights} can't be computed: {error}") from error
    log.info("Loaded %s in %.1f s on %d threads", folder.weights, time.monotonic() - started, threads)
    return session


def _describe(weights: Path, config: Path) -> bytes:
    module = "deployments.llm.engines.onnx.graph"
    root = Path(__file__).resolve().parents[4]
    done = subprocess.run(
        [sys.executable, "-m", module, weights, config], cwd=root, capture_output=True, timeout=_DESCRIBING
    )
    if done.returncode:
        raise WeightsMissingError(done.stderr.decode(errors="replace").strip()[-2000:])
    return done.stdout


def _pad(rows: Sequence[tuple[Ids, Ids | None]]) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    shape = len(rows), max(len(ids) for ids, _ in rows)
    feed = {name: np.zeros(shape, np.int64) for name in _INPUTS}
    for place, (ids, segments) in enumerate(rows):
        feed["input_ids"][place, : len(ids)] = ids
        feed["attention_mask"][place, : len(ids)] = 1
        if segments is not None:
            feed["token_type_ids"][place, : len(ids)] = segments
    return feed
