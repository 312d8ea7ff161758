"""Turns a LoRA adapter as peft writes it into llama.cpp's format, and checks that it belongs to the base."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from gguf import MODEL_ARCH_NAMES, GGUFWriter, get_tensor_name_map
from safetensors import SafetensorError, safe_open

from deployments.llm.engines.llama_cpp.header import Header
from deployments.llm.engines.llama_cpp.quantised import finish

_PREFIX: Final = "base_model.model."
PERMUTED: Final = ("llama",)
"""Architectures whose query and key rows llama.cpp orders in another way than transformers does."""
ARCHITECTURES: Final = {name: architecture for architecture, name in MODEL_ARCH_NAMES.items()}


class AdapterError(Exception):
    """The adapter can't be used; the message says why."""


def convert_adapter(directory: Path, base: Header, target: Path) -> None:
    """Writes the adapter's GGUF file. Raises AdapterError where it is damaged, of another base or of another kind."""
    config = _read_config(directory)
    pairs = _pair(_read_tensors(directory / "adapter_model.safetensors"), base)
    writer = GGUFWriter(target, base.architecture)
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", _scale_alpha(config))
    for name, (a, b) in pairs.items():
        writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(a))
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(b))
    finish(writer)


def _read_config(directory: Path) -> dict[str, Any]:
    try:
        config = json.loads((directory / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"adapter_config.json can't be read ({error}): tune the model again.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise AdapterError(
            "llama.cpp takes LoRA adapters only; GHOSTWRITER_LLM_CHAT_ENGINE=torch serves others."
        )
    for key in ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias"):
        if config.get(key):
            raise AdapterError(
                f"llama.cpp can't apply an adapter with {key}; GHOSTWRITER_LLM_CHAT_ENGINE=torch can."
            )
    return config


def _scale_alpha(config: Mapping[str, Any]) -> float:
    """llama.cpp scales by alpha / rank; rank-stabilised adapters are scaled by alpha / sqrt(rank)."""
    try:
        alpha, rank = float(config["lora_alpha"]), int(config["r"])
    except (KeyError, TypeError, ValueError) as error:
        raise AdapterError(f"adapter_config.json lacks a number: {error}") from error
    return alpha * rank**0.5 if config.get("use_rslora") else alpha


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise AdapterError(f"{path.name} can't be read ({error}): tune the model again.") from error
    if not tensors:
        raise AdapterError(f"{path.name} holds no weights.")
    return {name: values.astype(np.float32) for name, values in tensors.items()}


def _pair(tensors: Mapping[str, np.ndarray], base: Header) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Both matrices by llama.cpp's name of the weights they change."""
    if base.architecture not in ARCHITECTURES:
        raise AdapterError(f"adapters on the architecture {base.architecture} can't be converted.")
    names = get_tensor_name_map(ARCHITECTURES[base.architecture], int(base.get("block_count", 0)))
    halves: dict[str, dict[str, np.ndarray]] = {}
    for full, values in tensors.items():
        module, _, half = full.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".lora_")
        name = names.get_name(f"{module}.weight", try_suffixes=(".weight",))
        if half not in ("A", "B") or name is None or name not in base.tensors:
            raise AdapterError(
                f"it changes {full}, which the base model does not have: it is of another base."
            )
        halves.setdefault(name, {})[half] = values
    pairs = {}
    for name, both in halves.items():
        if both.keys() != {"A", "B"}:
            raise AdapterError(f"one of the two matrices for {name} is missing: tune the model again.")
        pairs[name] = _fit(name, both["A"], both["B"], base)
    return pairs


def _fit(name: str, a: np.ndarray, b: np.ndarray, base: Header) -> tuple[np.ndarray, np.ndarray]:
    inputs, outputs = base.tensors[name]
    if (
        a.ndim != 2
        or b.ndim != 2
        or (a.shape[1], b.shape[0]) != (inputs, outputs)
        or a.shape[0] != b.shape[1]
    ):
        raise AdapterError(
            f"its matrices for {name} are {a.shape} and {b.shape}, the base model's are "
            f"{outputs} by {inputs}: it is of another base."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise AdapterError(f"its matrices for {name} hold numbers that are not finite: tune the model again.")
    if base.architecture in PERMUTED:
        if name.endswith("attn_q.weight"):
            b = permute_rows(b, int(base.get("attention.head_count")))
        elif name.endswith("attn_k.weight"):
            b = permute_rows(b, int(base.get("attention.head_count_kv", base.get("attention.head_count"))))
    return a, b


def permute_rows(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from transformers' order (two halves) into llama.cpp's (pairs)."""
    rows = values.shape[0]
    return (
        values.reshape(heads, 2, rows // heads // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    )
