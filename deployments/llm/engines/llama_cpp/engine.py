"""The chat engine on llama.cpp: answers of all models are decoded together, adapters applied per request.

It knows no HTTP and no fine-tuning job; adapters come to it as directories.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from deployments.llm.engines.limits import limit_answer
from deployments.llm.engines.llama_cpp.answer_check import AnswerCheck
from deployments.llm.engines.llama_cpp.chat_text import Mixed
from deployments.llm.engines.llama_cpp.fleet import Fleet
from deployments.llm.engines.llama_cpp.generation import LlamaGeneration
from deployments.llm.engines.llama_cpp.grammar_check import GrammarCheck
from deployments.llm.engines.llama_cpp.large_texts import LargeTexts
from deployments.llm.engines.llama_cpp.loading import load_server
from deployments.llm.engines.llama_cpp.server import ServerOptions
from deployments.llm.engines.llama_cpp.vocabulary import Vocabulary, choose_threads
from deployments.llm.engines.llama_cpp.weights import prepare_weights
from deployments.llm.engines.loading import LoadingEngine
from deployments.llm.engines.ports import (
    ChatEngine,
    EngineError,
    GenerationRequest,
    Messages,
    NotReadyError,
    QueueFullError,
    Tokens,
    UnknownModelError,
)
from deployments.llm.engines.token_numbers import check_request, check_tokens
from deployments.llm.settings import LlmSettings
from shared import contracts

log = logging.getLogger(__name__)


class LlamaCppEngine(LoadingEngine, ChatEngine):
    """As many answers run at once as there are slots; the others wait in the order they came."""

    def __init__(self, settings: LlmSettings) -> None:
        super().__init__()
        self.chat_model = contracts.LOCAL_CHAT_MODEL
        self._settings = settings
        self._limit = settings.llm_max_model_len
        self._fleet = Fleet(self._build, self.chat_model, settings.llm_max_models)
        self._large_texts = LargeTexts()
        self._workers = ThreadPoolExecutor(settings.llm_max_batch, thread_name_prefix="answer")
        self._generations: list[LlamaGeneration] = []  # that run or wait
        self._lock = threading.Lock()
        self._weights = Path()
        self._vocabulary: Any = None
        self._grammars: Any = None

    # --- loading ---
    def load_models(self) -> None:
        started = time.monotonic()
        if os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive":
            log.warning("OMP_WAIT_POLICY=passive makes llama.cpp slower on an idle machine: unset it")
        self._weights = prepare_weights(self._settings)
        self._vocabulary = Vocabulary(self._weights)
        self._limit = min(self._limit, self._vocabulary.context)
        self._grammars = GrammarCheck(self._vocabulary.impossible_in_json)
        self._fleet.start()
        log.info(
            "llama.cpp: %s loaded in %.1f s; %d answers at once of %d tokens",
            self._weights.name,
            time.monotonic() - started,
            self._settings.llm_max_batch,
            self._limit,
        )

    def _build(self, adapters: Mapping[str, Path]) -> Any:
        threads = self._settings.llm_threads or choose_threads(_count_cores())
        options = ServerOptions(self._limit, self._settings.llm_max_batch, threads)
        return load_server(self._weights, self._vocabulary.header, adapters, options)

    # --- fine-tuned models ---
    def register_adapter(self, model_id: str, directory: Path, *, soon: bool = True) -> None:
        self._fleet.register(model_id, directory, soon=soon)

    def forget_adapter(self, model_id: str) -> None:
        self._fleet.forget(model_id)

    @property
    def adapters(self) -> Mapping[str, Path]:
        return self._fleet.adapters

    # --- tokens ---
    @property
    def max_model_len(self) -> int:
        return self._limit

    def tokenize(self, text: str) -> list[int]:
        self.check_ready()
        return self._encode(self._vocabulary.chat_text.split(text))

    def detokenize(self, tokens: Tokens) -> str:
        self.check_ready()
        check_tokens(tokens, self._vocabulary.size)
        with self._large_texts.admit(len(tokens)), self._fleet.borrow(self.chat_model) as (server, _):
            return server.detokenize(tokens)

    def count_tokens(self, messages: Messages) -> int:
        self.check_ready()
        chat_text = self._vocabulary.chat_text
        if messages[-1]["role"] != "assistant":
            return len(self._encode(chat_text.write_prompt(messages)))
        return sum(len(self._encode(parts)) for parts in chat_text.write_example(messages))

    def _encode(self, parts: Mixed) -> list[int]:
        size = sum(len(part) for part in parts if isinstance(part, str))
        with self._large_texts.admit(size), self._fleet.borrow(self.chat_model) as (server, _):
            return server.tokenize(parts)

    def _read(self, prompt: Messages | str | Tokens) -> list[int]:
        if isinstance(prompt, str):
            return self.tokenize(prompt)
        if not prompt or isinstance(prompt[0], int):
            return list(prompt)  # type: ignore[arg-type]
        return self._encode(self._vocabulary.chat_text.write_prompt(prompt))

    # --- answers ---
    def generate(self, request: GenerationRequest) -> LlamaGeneration:
        self.check_ready()
        if not self._fleet.knows(request.model):
            raise UnknownModelError(request.model)
        check_request(request, self._vocabulary.size)
        self._check_queue()
        prompt = self._read(request.prompt)
        limit = limit_answer(
            self._limit, len(prompt), request.max_tokens, self._settings.llm_default_max_tokens
        )
        if request.json_schema is None:
            generation = LlamaGeneration(request, prompt, limit)
        else:
            grammar, check = self._write_grammar(request.json_schema), AnswerCheck(request.json_schema)
            generation = LlamaGeneration(request, prompt, limit, grammar, check)
        with self._lock:
            if self._closed:
                raise NotReadyError("The server is stopping.")
            self._count_queue()
            self._generations.append(generation)
            self._workers.submit(self._run, generation)
        return generation

    def _check_queue(self) -> None:
        """Refuses before the prompt is read, which costs a megabyte of it some time."""
        with self._lock:
            self._count_queue()

    def _count_queue(self) -> None:
        self._generations = [other for other in self._generations if not other.ended.is_set()]
        if len(self._generations) >= self._settings.llm_max_queue:
            raise QueueFullError(f"{len(self._generations)} generations run or wait; try again later.")

    def _run(self, generation: LlamaGeneration) -> None:
        if generation.ended.is_set():
            return
        try:
            with self._fleet.borrow(generation.request.model) as (server, lora):
                generation.run(server, lora)
        except EngineError as error:  # it says what there is to do
            log.warning("A generation with %s failed: %s", generation.request.model, error)
            generation.fail(error)
        except Exception as error:
            log.exception("A generation with %s failed", generation.request.model)
            generation.fail(error)

    def _write_grammar(self, schema: Mapping[str, Any]) -> str:
        with self._fleet.borrow(self.chat_model) as (server, lora):
            return str(self._grammars.check(schema, server, lora))

    def close(self) -> None:
        with self._lock:
            super().close()
            for generation in self._generations:
                generation.cancel()
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._fleet.close()


def _count_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build_engine(settings: LlmSettings) -> LlamaCppEngine:
    """The engine that the settings describe."""
    return LlamaCppEngine(settings)
