"""The running server, and the next one with other adapters that takes its place without a break.

llama.cpp takes adapters when it starts. The base's weights are mapped into memory, so two servers share them; the old
one ends the answers that run on it and is closed.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deployments.llm.engines.llama_cpp.server import LlamaServer, release_memory
from deployments.llm.engines.ports import EngineError, NotReadyError, UnknownModelError

log = logging.getLogger(__name__)

_SWAP_SECONDS: Final = 120.0
_RETRY_SECONDS: Final = 10
_CLOSE_SECONDS: Final = 5.0

Build = Callable[[Mapping[str, Path]], tuple[LlamaServer, Mapping[str, str]]]
"""Loads a server with adapters, numbered in their order; those that don't fit are left out and told with the reason."""


@dataclass
class _Lease:
    server: LlamaServer
    adapters: dict[str, Path]
    users: int = 0


class Fleet:
    """Keeps the `max_adapters` most recently used adapters loaded, and lends the server that has what is asked for."""

    def __init__(self, build: Build, base: str, max_adapters: int, *, seconds: float = _SWAP_SECONDS) -> None:
        self._build, self._base, self._max, self._seconds = build, base, max_adapters, seconds
        self._known: OrderedDict[str, Path] = OrderedDict()  # most recently used, or registered to be, last
        self._unasked: set[str] = set()  # registered for later: not loaded before somebody asks
        self._awaited: list[str] = []  # once for each that waits, in the order they came
        self._failed: dict[str, tuple[Path, str]] = {}
        self._current: _Lease | None = None
        self._given_up: dict[str, Path] | None = None  # could not be loaded together: not tried again
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Loads the first server; blocks. Raises EngineError where not even the base can be loaded."""
        with self._changed:
            wanted = self._choose()
        self._current = self._load(wanted)
        self._thread = threading.Thread(target=self._renew_forever, name="adapters", daemon=True)
        self._thread.start()

    def register(self, model_id: str, directory: Path, *, soon: bool = True) -> None:
        """Makes an adapter known. Once a server runs, it is loaded in the background; without `soon` only when it is
        asked for, and whatever was used or registered for soon goes before it."""
        with self._changed:
            self._known[model_id] = directory
            self._known.move_to_end(model_id, last=soon)
            (self._unasked.discard if soon else self._unasked.add)(model_id)
            self._failed.pop(model_id, None)
            self._changed.notify_all()

    def forget(self, model_id: str) -> None:
        """Takes an adapter away."""
        with self._changed:
            self._known.pop(model_id, None)
            self._unasked.discard(model_id)
            self._failed.pop(model_id, None)
            self._changed.notify_all()

    @property
    def adapters(self) -> dict[str, Path]:
        """The folders of those that are known, loaded or not."""
        with self._changed:
            return dict(self._known)

    def knows(self, model_id: str) -> bool:
        """Whether that is the base or a registered adapter."""
        with self._changed:
            return model_id == self._base or model_id in self._known

    @contextmanager
    def borrow(self, model_id: str) -> Iterator[tuple[LlamaServer, list[dict[str, float]]]]:
        """The server and the scale of each of its adapters; waits so many seconds while the adapter is loaded.

        Raises UnknownModelError, NotReadyError (also where answers of others kept it from being loaded in time), or
        EngineError where the adapter can't be loaded.
        """
        with self._changed:
            self._unasked.discard(model_id)
            self._awaited.append(model_id)
            self._changed.notify_all()
            try:
                lease = self._wait_for(model_id)
            finally:
                self._awaited.remove(model_id)
            lease.users += 1
        try:
            yield (
                lease.server,
                [
                    {"id": number, "scale": float(name == model_id)}
                    for number, name in enumerate(lease.adapters)
                ],
            )
        finally:
            with self._changed:
                lease.users -= 1
                self._changed.notify_all()

    def _wait_for(self, model_id: str) -> _Lease:
        deadline = time.monotonic() + self._seconds
        while True:
            if self._closed or self._current is None:
                raise NotReadyError("The server is stopping.")
            if model_id == self._base:
                return self._current
            if model_id not in self._known:
                raise UnknownModelError(model_id)
            if model_id in self._failed:
                raise EngineError(f"The model {model_id} can't be loaded: {self._failed[model_id][1]}")
            if self._current.adapters.get(model_id) == self._known[model_id]:
                self._known.move_to_end(model_id)
                return self._current
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._refuse(model_id)
            self._changed.wait(left)

    def _refuse(self, model_id: str) -> NotReadyError:
        error = NotReadyError(
            f"The model {model_id} is not in memory, and found no place there within {self._seconds:.0f} s: answers of "
            f"other fine-tuned models run. Try again in a moment, or raise GHOSTWRITER_LLM_MAX_MODELS ({self._max})."
        )
        error.retry_after = _RETRY_SECONDS
        return error

    def _choose(self) -> dict[str, Path]:
        """What somebody waits for, who came first before all, then what was used last."""
        awaited = [name for name in dict.fromkeys(self._awaited) if name in self._known]
        others = [name for name in self._known if name not in awaited and name not in self._unasked]
        fit = [name for name in (*others, *reversed(awaited)) if name not in self._failed]
        return {name: self._known[name] for name in fit[-self._max :]}

    def _outdated(self) -> bool:
        wanted = self._choose()
        return self._current is not None and wanted not in (self._current.adapters, self._given_up)

    def _load(self, wanted: dict[str, Path]) -> _Lease:
        started = time.monotonic()
        server, refused = self._build(wanted)
        with self._changed:
            for name, reason in refused.items():
                log.error("The model %s can't be loaded: %s", name, reason)
                if self._known.get(name) == wanted[name]:
                    self._failed[name] = (wanted[name], reason)
        adapters = {name: path for name, path in wanted.items() if name not in refused}
        log.info("llama.cpp with %d adapters after %.1f s", len(adapters), time.monotonic() - started)
        return _Lease(server, adapters)

    def _renew_forever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._outdated())
                if self._closed:
                    return
                wanted = self._choose()
            try:
                renewed = self._load(wanted)
            except Exception as error:  # the running server goes on
                log.exception("A server with %d adapters could not be loaded", len(wanted))
                self._blame(wanted, str(error))
                continue
            with self._changed:
                if self._closed:
                    renewed.server.close()
                    return
                self._given_up = None
                old, self._current = self._current, renewed
                self._changed.notify_all()
                while old is not None and old.users and not self._closed:
                    self._changed.wait()
            if old is not None and not old.users:
                old.server.close()
                release_memory()

    def _blame(self, wanted: Mapping[str, Path], reason: str) -> None:
        """The adapters that the running server has not are told to fail; each may be registered again."""
        with self._changed:
            self._given_up = dict(wanted)
            loaded = self._current.adapters if self._current else {}
            for name, path in wanted.items():
                if loaded.get(name) != path:
                    self._failed[name] = (path, reason)
            self._changed.notify_all()

    def close(self) -> None:
        """Refuses more, waits a while for what runs (its callers have been told to end) and frees the server."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            current = self._current
            drained = current is None or self._changed.wait_for(lambda: not current.users, _CLOSE_SECONDS)
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
        if current is not None and drained:
            current.server.close()
