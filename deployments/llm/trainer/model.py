"""The base model with fresh adapters on it, where and in which precision this machine computes best."""

from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from deployments.llm.engines.torch.device import choose_device, choose_dtype
from deployments.llm.engines.torch.weights import check_folder


@dataclass(frozen=True)
class Base:
    """A base model that is loaded, and its tokenizer."""

    model: Any
    tokenizer: Any
    dtype: torch.dtype


def load_base(weights: str) -> Base:
    """Loads a folder or hub id: bfloat16 where the hardware has it, else float32. Raises WeightsMissingError."""
    check_folder(weights)
    dtype = choose_dtype()
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=dtype).to(choose_device())
    model.config.use_cache = False
    return Base(model, AutoTokenizer.from_pretrained(weights), dtype)


def describe_adapter(rank: int, alpha: int) -> LoraConfig:
    """LoRA on all linear layers but the head."""
    return LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def add_adapter(base: Base, config: LoraConfig) -> Any:
    """The model with adapters in float32 on it, alike for the same seed of torch."""
    return get_peft_model(base.model, config, autocast_adapter_dtype=True)
