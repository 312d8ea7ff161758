"""Scores texts in a process of its own, which has torch: this one stays small.

The process is started by the first request, started again when it was killed, and ended when nothing was asked for a
while: its memory goes back then.
"""

import base64
import contextlib
import json
import logging
import math
import os
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from deployments.llm.engines.ports import (
    ChatEngine,
    ContextTooLongError,
    EngineError,
    NotReadyError,
    ScoringEngine,
    TokenLogprob,
    Tokens,
    UnknownModelError,
    UnsupportedError,
)
from deployments.llm.settings import LlmSettings

log = logging.getLogger(__name__)

REQUEST_SECONDS: Final = 180.0
"""The first request waits for torch and the model, some 10 to 40 s."""
IDLE_SECONDS: Final = 300.0
_ATTEMPTS: Final = 2
_STOP_SECONDS: Final = 5.0


class _ChildGoneError(Exception):
    pass


class _Child:
    """The process, and a thread that reads what it answers."""

    def __init__(self, command: Sequence[str], nice: int) -> None:
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, bufsize=1
        )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="scorer-answers", daemon=True).start()
        try:
            psutil.Process(self._process.pid).nice(nice)
        except psutil.Error:
            log.warning("The scorer's priority could not be lowered")
        log.info("The scorer started as process %d", self._process.pid)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Its answer. Raises _ChildGoneError, and TimeoutError after which it must be ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
        except (OSError, ValueError) as error:  # ended, or closed by another thread
            raise _ChildGoneError from error
        try:
            line = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError from None
        if not line:
            raise _ChildGoneError
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Ends it at once: it has nothing to tidy up."""
        self._process.kill()
        self._process.wait(_STOP_SECONDS)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # a request that was not read
                    stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # closed
            for line in self._process.stdout:
                self._answers.put(line)
        self._answers.put("")


class ScoringProcess(ScoringEngine):
    """Calls take turns. `chat` tells which models there are, and where their adapters lie."""

    def __init__(
        self,
        chat: ChatEngine,
        command: Sequence[str],
        *,
        nice: int = 0,
        request_seconds: float = REQUEST_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._chat, self._command, self._nice = chat, list(command), nice
        self._request_seconds, self._idle_seconds = request_seconds, idle_seconds
        self._lock, self._starting = threading.Lock(), threading.Lock()
        self._child: _Child | None = None
        self._idle: threading.Timer | None = None
        self._closed = False

    def load(self) -> None:
        """Nothing: most servers are never asked for scores."""

    @property
    def ready(self) -> bool:
        return not self._closed

    @property
    def failure(self) -> str | None:
        return None

    @property
    def running(self) -> bool:
        """Whether there is a process, with its memory."""
        child = self._child
        return child is not None and child.alive

    def score(self, model: str, tokens: Tokens, top: int = 0) -> list[TokenLogprob]:
        if self._closed:
            raise NotReadyError("The server is stopping.")
        adapter = None if model == self._chat.chat_model else self._chat.adapters.get(model)
        if adapter is None and model != self._chat.chat_model:
            raise UnknownModelError(model)
        if len(tokens) > self._chat.max_model_len:
            raise ContextTooLongError(self._chat.max_model_len, len(tokens))
        request = {"adapter": adapter and str(adapter.resolve()), "tokens": list(tokens), "top": top}
        with self._lock:
            if self._idle is not None:
                self._idle.cancel()
            try:
                answer = self._ask(request)
            finally:
                self._idle = threading.Timer(self._idle_seconds, self._end_idle)
                self._idle.daemon = True
                self._idle.start()
        if "value_error" in answer:
            raise ValueError(answer["value_error"])
        if "error" in answer:
            raise EngineError(str(answer["error"]))
        return [_unpack(one) for one in answer["scores"]]

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        for _ in range(_ATTEMPTS):
            with self._starting:  # else one could be started just after the end of all
                if self._closed:
                    break
                if self._child is None or not self._child.alive:
                    self._child = self._start()
                child = self._child
            try:
                return child.ask(request, self._request_seconds)
            except _ChildGoneError:
                log.warning("The scorer ended in a request; it is started again")
                self._end()
            except TimeoutError:
                self._end()
                raise EngineError(
                    f"Scoring took longer than {self._request_seconds:.0f} s: send a shorter text."
                ) from None
        if self._closed:
            raise NotReadyError("The server is stopping.")
        raise EngineError(f"The process that scores ended {_ATTEMPTS} times; the server's log says why.")

    def _start(self) -> _Child:
        try:
            return _Child(self._command, self._nice)
        except OSError as error:
            raise UnsupportedError(
                f"Log probabilities of a given text need torch, and {self._command[0]} can't be started "
                f"({error.strerror}): install the trainer's environment (`make install`), or leave out `echo` and "
                "`logprobs`.",
                "logprobs",
            ) from error

    def _end_idle(self) -> None:
        with self._lock:
            if self._idle is threading.current_thread() and self._child is not None:
                log.info("Nothing was scored for %.0f s: the scorer ends", self._idle_seconds)
                self._end()

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def close(self) -> None:
        with self._starting:
            self._closed = True
            child = self._child
        if self._idle is not None:
            self._idle.cancel()
        if child is not None:  # without the lock: a request that waits for it ends with it
            child.end()


def _unpack(packed: Sequence[Any]) -> TokenLogprob:
    token, data, logprob, top = packed
    value = math.nan if logprob is None else float(logprob)
    return TokenLogprob(token, base64.b64decode(data), value, tuple(_unpack(one) for one in top))


def build_engine(settings: LlmSettings, chat: ChatEngine) -> ScoringEngine:
    """The chat engine itself where it can score, else a process beside it."""
    if isinstance(chat, ScoringEngine):
        return chat
    python = settings.llm_trainer_python
    command = [str(python if python.is_absolute() else Path.cwd() / python)]
    command += ["-m", "deployments.llm.engines.torch.scorer"]
    return ScoringProcess(chat, command, nice=settings.llm_trainer_nice)
