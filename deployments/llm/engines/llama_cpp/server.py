"""One running llama.cpp: a base model with adapters on it. It knows no queue and no model id."""

import ctypes
import http.client
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from deployments.llm.engines.ports import EngineError

# OpenMP's threads spin at each barrier until all are there. For ever, and one busy process beside them makes an answer
# six times slower (15 s for 2.5); not at all, and an idle machine answers slower. It is read when xllamacpp is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import xllamacpp

_TOKENIZER_SECONDS: Final = 30.0
_TOKENIZER_BYTES_A_SECOND: Final = 100_000
"""It reads five times as many on an idle machine. Given up too soon, a large text would have the next one beside it."""
_BATCH: Final = 512
"""Tokens of prompts read at a time: a request that was cancelled stops after so many."""


@dataclass(frozen=True)
class ServerOptions:
    """`context` tokens for each of `slots` answers at once."""

    context: int
    slots: int
    threads: int


class LlamaServer:
    """Loads at once, or raises EngineError. Adapters are numbered in the order given."""

    def __init__(self, weights: Path, adapters: Sequence[Path], options: ServerOptions) -> None:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(weights)
        parameters.n_ctx = options.context * options.slots
        parameters.n_parallel = options.slots
        parameters.kv_unified = False
        parameters.n_batch = parameters.n_ubatch = _BATCH
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = options.threads
        parameters.fit_params = False
        parameters.warmup = False  # a quarter of the time that a new adapter waits for its server
        parameters.verbosity = -1
        parameters.ui = False
        parameters.endpoint_slots = False
        # Prompts put aside are found again by their tokens alone: one adapter's would be taken for another's.
        parameters.cache_ram_mib = 0
        parameters.n_threads_http = 2
        self._key = secrets.token_hex(16)  # its port on loopback is anybody's on this machine
        parameters.api_keys = [self._key]
        # An adapter that a request does not name must not be applied: each is off until it is asked for.
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), 0.0) for path in adapters]
        try:
            self._server: Any = xllamacpp.Server(parameters)
        except RuntimeError as error:
            raise EngineError(f"llama.cpp could not load {weights.name}: {error}") from error
        address = urlsplit(str(self._server.listening_address))
        self._host, self._port = str(address.hostname), address.port

    def complete(self, body: Mapping[str, Any], take: Callable[[dict[str, Any]], bool]) -> None:
        """Streams the chunks of an answer to `take` until it returns True. Blocks. Raises EngineError."""
        errors: list[str] = []
        failures: list[Exception] = []

        def guard(chunk: dict[str, Any]) -> bool:
            try:
                if "error" in chunk:
                    errors.append(str(chunk["error"].get("message")))
                    return True
                return take(chunk)
            except Exception as error:  # it must not pass through C++
                failures.append(error)
                return True

        self._server.handle_completions({**body, "stream": True}, guard)
        if failures:
            raise failures[0]
        if errors:
            raise EngineError(f"llama.cpp refused the request: {errors[0]}")

    def tokenize(self, parts: Sequence[str | int]) -> list[int]:
        """Tokens of plain texts and of the tokens between them; no special token is looked for in a text."""
        clean = [
            part.encode("utf-8", "replace").decode() if isinstance(part, str) else part for part in parts
        ]
        body = {"content": clean, "add_special": False, "parse_special": False}
        return list(self._post("/tokenize", body)["tokens"]) if clean else []

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Their text; they must be tokens of the model."""
        return str(self._post("/detokenize", {"tokens": list(tokens)})["content"])

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        content = json.dumps(body).encode()
        seconds = _TOKENIZER_SECONDS + len(content) / _TOKENIZER_BYTES_A_SECOND
        connection = http.client.HTTPConnection(self._host, self._port, timeout=seconds)
        try:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection.request("POST", path, content, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EngineError(f"llama.cpp did not answer on {path}: {error}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise EngineError(f"llama.cpp refused {path}: {answer.get('error', {}).get('message')}")
        return answer

    def close(self) -> None:
        """Frees it; nothing may run on it any more."""
        self._server = None


def release_memory() -> None:
    """Hands what a closed server has freed back to the system; glibc keeps much of it otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
