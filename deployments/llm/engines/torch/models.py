"""The base model and the fine-tuned ones made from it that are in memory, the most recently used of them.

It knows no request.
"""

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from deployments.llm.engines.ports import EngineError, UnknownModelError
from deployments.llm.engines.torch.device import choose_device, choose_dtype
from deployments.llm.engines.torch.vocabulary import Vocabulary
from deployments.llm.engines.torch.weights import check_folder

log = logging.getLogger(__name__)


class Models:
    """Models by id. Adapters may be registered before `load`; a model is made when it is first asked for."""

    def __init__(self, base_id: str, keep: int) -> None:
        self._base_id, self._keep = base_id, keep
        self._adapters: dict[str, Path] = {}
        self._merged: OrderedDict[str, Any] = OrderedDict()  # the most recently used last
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self.base: Any = None

    def load(self, source: str) -> Vocabulary:
        """Loads the base from a folder or hub id. Raises WeightsMissingError and what transformers raises."""
        check_folder(source)
        self._source = source
        tokenizer = AutoTokenizer.from_pretrained(source)
        self.base = self._load_base(choose_dtype())
        size = int(self.base.get_output_embeddings().weight.shape[0])
        return Vocabulary(tokenizer, size, _find_stop_tokens(self.base, tokenizer))

    def _load_base(self, dtype: torch.dtype) -> Any:
        return AutoModelForCausalLM.from_pretrained(self._source, dtype=dtype).to(choose_device()).eval()

    def register(self, model_id: str, directory: Path, *, same: bool = False) -> None:
        """Makes an adapter known, in the place of an older one; `same` where it is surely the one that is loaded."""
        with self._lock:
            self._adapters[model_id] = directory
            if not same:
                self._merged.pop(model_id, None)

    @property
    def adapters(self) -> Mapping[str, Path]:
        """Folders by model id."""
        return dict(self._adapters)

    def forget(self, model_id: str) -> None:
        """Takes it away."""
        with self._lock:
            self._adapters.pop(model_id, None)
            self._merged.pop(model_id, None)

    def check(self, model_id: str) -> None:
        """Raises UnknownModelError."""
        if model_id != self._base_id and model_id not in self._adapters:
            raise UnknownModelError(model_id)

    def get(self, model_id: str) -> Any:
        """The model. A fine-tuned one is the base with its adapter merged in, in full precision.

        Raises UnknownModelError, and EngineError for an adapter that does not fit the base.
        """
        if model_id == self._base_id:
            return self.base
        with self._making:
            with self._lock:
                if model_id in self._merged:
                    self._merged.move_to_end(model_id)
                    return self._merged[model_id]
                directory = self._adapters.get(model_id)
            if directory is None:
                raise UnknownModelError(model_id)
            started = time.monotonic()
            merged = self._merge(model_id, directory)
            with self._lock:
                if self._adapters.get(model_id) == directory:  # else it was forgotten meanwhile
                    self._merged[model_id] = merged
                while len(self._merged) > self._keep:
                    self._merged.popitem(last=False)
        log.info("Loaded %s in %.1f s", model_id, time.monotonic() - started)
        return merged

    def _merge(self, model_id: str, directory: Path) -> Any:
        from peft import PeftModel, get_peft_model_state_dict
        from safetensors import SafetensorError, safe_open

        try:
            tuned = PeftModel.from_pretrained(self._load_base(torch.float32), directory)
            with safe_open(directory / "adapter_model.safetensors", "pt") as stored:
                found = set(stored.keys())
            # peft passes over what the base does not have, and leaves as it is what the adapter does not.
            wanted = set(get_peft_model_state_dict(tuned))
            if found != wanted:
                raise ValueError(f"{len(found ^ wanted)} of its weights have no counterpart")
            merged = tuned.merge_and_unload().to(self.base.dtype).eval()
        except (OSError, RuntimeError, ValueError, KeyError, SafetensorError, json.JSONDecodeError) as error:
            log.exception("The adapter of %s could not be loaded", model_id)
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise EngineError(
                f"The adapter of {model_id} does not fit this base model or is damaged: {reason}. Was it trained on "
                "another base?"
            ) from error
        # Adapters leave the embeddings alone: one copy serves all models.
        merged.set_input_embeddings(self.base.get_input_embeddings())
        merged.tie_weights()
        return merged


def _find_stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in [*ids, tokenizer.eos_token_id] if token is not None)
