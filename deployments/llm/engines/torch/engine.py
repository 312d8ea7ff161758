"""The engine on torch and transformers, on a CPU or a GPU: one decoding thread serves all models.

It knows no HTTP and no fine-tuning job; adapters come to it as directories.
"""

import logging
import math
import os
import threading
import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from deployments.llm.engines.answer_text import AnswerText
from deployments.llm.engines.limits import count_admitted, limit_answer
from deployments.llm.engines.ports import (
    ChatEngine,
    GenerationRequest,
    Messages,
    NotReadyError,
    QueueFullError,
    ScoringEngine,
    TokenLogprob,
    Tokens,
    UnknownModelError,
    UnsupportedError,
)
from deployments.llm.engines.torch.batch import Batch, TorchGeneration
from deployments.llm.engines.torch.chat_tokens import count_tokens, encode_prompt
from deployments.llm.engines.torch.device import choose_device, choose_dtype, release_memory
from deployments.llm.engines.torch.weights import locate_chat_weights
from deployments.llm.settings import LlmSettings
from shared import contracts

log = logging.getLogger(__name__)

_STOP_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 2.0


class TorchChatEngine(ChatEngine, ScoringEngine):
    """Answers of one model are decoded together; several models take turns, one token each."""

    def __init__(self, settings: LlmSettings) -> None:
        self.chat_model = contracts.LOCAL_CHAT_MODEL
        self._settings = settings
        self._adapters: dict[str, Path] = {}
        self._models: OrderedDict[str, Any] = OrderedDict()  # fine-tuned, most recently used last
        self._batches: dict[str, Batch] = {}
        self._waiting: deque[TorchGeneration] = deque()
        self._generations: list[TorchGeneration] = []  # that run or wait; the batches are the decoder's own
        self._decoder: threading.Thread | None = None
        self._condition = threading.Condition()
        self._loaded = self._closed = False
        self._failure: str | None = None
        self._limit = settings.llm_max_model_len
        self._base: Any = None
        self._tokenizer: Any = None

    # --- loading ---
    def load(self) -> None:
        try:
            started = time.monotonic()
            # Decoding is bound by memory: more threads than half the cores win little and are slow beside others.
            torch.set_num_threads(self._settings.llm_threads or max(1, (os.cpu_count() or 2) // 2))
            self._source = locate_chat_weights(self._settings.llm_base_model, self._settings.models_dir)
            self._tokenizer = AutoTokenizer.from_pretrained(self._source)
            self._base = self._load_base(choose_dtype())
            self._limit = min(self._limit, self._base.config.max_position_embeddings)
            self._stop_tokens = _stop_tokens(self._base, self._tokenizer)
            self._decoder = threading.Thread(target=self._decode_forever, name="decoder", daemon=True)
            self._decoder.start()
            self._loaded = True
            log.info(
                "Models loaded in %.1f s on %s as %s",
                time.monotonic() - started,
                self._base.device,
                self._base.dtype,
            )
        except Exception as error:
            log.exception("The models could not be loaded")
            self._failure = f"{type(error).__name__}: {error}"

    def _load_base(self, dtype: torch.dtype) -> Any:
        model = AutoModelForCausalLM.from_pretrained(self._source, dtype=dtype)
        return model.to(choose_device()).eval()

    @property
    def ready(self) -> bool:
        return self._loaded and not self._closed

    @property
    def failure(self) -> str | None:
        return self._failure

    def _check_ready(self) -> None:
        if self._failure:
            raise NotReadyError(f"The models could not be loaded: {self._failure}")
        if not self.ready:
            raise NotReadyError("The models are still loading; try again in a moment.")

    # --- fine-tuned models ---
    def register_adapter(self, model_id: str, directory: Path) -> None:
        with self._condition:
            self._adapters[model_id] = directory

    def forget_adapter(self, model_id: str) -> None:
        with self._condition:
            self._adapters.pop(model_id, None)
            self._models.pop(model_id, None)

    def _model(self, model_id: str) -> Any:
        """The model in memory; a fine-tuned one is the base with its adapter merged in, in full precision."""
        if model_id == self.chat_model:
            return self._base
        with self._condition:
            if model_id in self._models:
                self._models.move_to_end(model_id)
                return self._models[model_id]
            directory = self._adapters.get(model_id)
        if directory is None:
            raise UnknownModelError(model_id)
        from peft import PeftModel

        started = time.monotonic()
        merged = PeftModel.from_pretrained(self._load_base(torch.float32), directory).merge_and_unload()
        merged = merged.to(self._base.dtype).eval()
        # Adapters leave the embeddings alone: one copy serves all models.
        merged.set_input_embeddings(self._base.get_input_embeddings())
        merged.tie_weights()
        with self._condition:
            if self._adapters.get(model_id) == directory:  # else it was forgotten meanwhile
                self._models[model_id] = merged
            while len(self._models) > self._settings.llm_max_models:
                self._models.popitem(last=False)
        log.info("Loaded %s in %.1f s", model_id, time.monotonic() - started)
        return merged

    # --- lengths ---
    @property
    def max_model_len(self) -> int:
        return self._limit

    def count_tokens(self, messages: Messages) -> int:
        self._check_ready()
        return count_tokens(self._tokenizer, messages)

    def tokenize(self, text: str) -> list[int]:
        self._check_ready()
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def detokenize(self, tokens: Tokens) -> str:
        self._check_ready()
        if unknown := [token for token in tokens if not 0 <= token < len(self._tokenizer)]:
            raise ValueError(f"This model has no token {unknown[0]}.")
        return str(self._tokenizer.decode(list(tokens)))

    def _encode(self, prompt: Messages | str | Tokens) -> list[int]:
        if isinstance(prompt, str):
            return self.tokenize(prompt)
        if prompt and isinstance(prompt[0], int):
            return list(prompt)  # type: ignore[arg-type]
        return encode_prompt(self._tokenizer, prompt)  # type: ignore[arg-type]

    # --- scores ---
    @torch.inference_mode()
    def score(self, model: str, tokens: Tokens, top: int = 0) -> list[TokenLogprob]:
        self._check_ready()
        if model != self.chat_model and model not in self._adapters:
            raise UnknownModelError(model)
        limit_answer(self._limit + 1, len(tokens), None, 1)
        loaded = self._model(model)
        logits = loaded(torch.tensor([list(tokens)], device=loaded.device)).logits[0].float()
        table = torch.log_softmax(logits, -1)

        def tell(place: int, token: int, others: bool) -> TokenLogprob:
            data = self._tokenizer.decode([token]).encode()
            if not place:
                return TokenLogprob(token, data, math.nan)
            row = table[place - 1]
            best = torch.topk(row, top).indices.tolist() if others and top else []
            return TokenLogprob(
                token, data, float(row[token]), tuple(tell(place, one, False) for one in best)
            )

        return [tell(place, token, True) for place, token in enumerate(tokens)]

    # --- answers ---
    def generate(self, request: GenerationRequest) -> TorchGeneration:
        self._check_ready()
        if request.model != self.chat_model and request.model not in self._adapters:
            raise UnknownModelError(request.model)
        for param in ("json_schema", "logprobs", "logit_bias"):
            if getattr(request, param) not in (None, {}):
                raise UnsupportedError(f"The torch engine has no {param}.", param)
        prompt = self._encode(request.prompt)
        limit = limit_answer(
            self._limit, len(prompt), request.max_tokens, self._settings.llm_default_max_tokens
        )
        generator = torch.Generator()
        generator.manual_seed(request.seed) if request.seed is not None else generator.seed()
        generation = TorchGeneration(request, prompt, limit, generator, AnswerText(request.stop))
        with self._condition:
            if self._closed:
                raise NotReadyError("The server is stopping.")
            self._generations = [other for other in self._generations if not other.cancelled.is_set()]
            if len(self._generations) >= self._settings.llm_max_queue:
                raise QueueFullError(f"{len(self._generations)} generations run or wait; try again later.")
            self._generations.append(generation)
            self._waiting.append(generation)
            self._condition.notify_all()
        return generation

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
        self._waiting = deque(one for one in self._waiting if not one.cancelled.is_set())
        count = count_admitted(
            [(one.request.model, one.length) for one in self._waiting],
            {model: [row.length for row in batch.rows] for model, batch in self._batches.items()},
            max_rows=self._settings.llm_max_batch,
            max_tokens=self._settings.llm_max_batch_tokens,
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
                batch = Batch(self._model(model_id), self._tokenizer, self._stop_tokens)
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

    def close(self) -> None:
        with self._condition:
            self._closed = True
            for generation in self._generations:
                generation.cancel()
            self._condition.notify_all()
        if (
            self._decoder is not None
        ):  # an interpreter must not end while torch computes in a thread of its own
            self._decoder.join(_STOP_SECONDS)


def _stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in [*ids, tokenizer.eos_token_id] if token is not None)


def build_engine(settings: LlmSettings) -> TorchChatEngine:
    """The engine that the settings describe."""
    return TorchChatEngine(settings)
