"""Weights in Hugging Face's format, as torch reads them; converts the packaged GGUF once.

It knows no request and keeps no model in memory.
"""

import json
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Final

from deployments.llm.engines.digests import BASE_SETTING, check_digest
from deployments.llm.engines.weights import (
    WeightsMissingError,
    fetch_base_weights,
    locate_base_weights,
    name_converted,
)
from deployments.llm.settings import LlmSettings

log = logging.getLogger(__name__)

_TOKENIZERS: Final = ("tokenizer.json", "tokenizer.model", "vocab.json")


def locate_chat_weights(settings: LlmSettings) -> str:
    """Directory or hub id that transformers loads; a GGUF file is converted on the first call (20-40 s).

    Raises WeightsMissingError, and WrongDigestError where the settings name another digest.
    """
    source = locate_base_weights(settings.llm_base_model)
    if settings.llm_base_model_sha256:
        if not Path(source).exists():  # only what is here has a digest
            source = str(fetch_base_weights(source))
        check_digest(Path(source), settings.llm_base_model_sha256, BASE_SETTING)
    if not source.endswith(".gguf"):
        return source
    gguf = Path(source)
    target = settings.models_dir / name_converted(gguf)
    if not (target / "config.json").is_file():
        convert_gguf(gguf, target)
    return str(target)


def check_folder(weights: str) -> None:
    """Raises WeightsMissingError for a folder that is not a whole model, with what it lacks; a hub id passes."""
    folder = Path(weights)
    if not folder.is_dir():
        return
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        missing.append(_TOKENIZERS[0])
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        parts = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        missing += [name for name in parts if not (folder / name).is_file()]
    elif not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        missing.append("model.safetensors")
    if missing:
        raise WeightsMissingError(
            f"The folder {folder} is not a whole model: {', '.join(missing)} is missing."
        )


def convert_gguf(gguf: Path, target: Path) -> None:
    """Writes a GGUF file as a Hugging Face directory; a kill at any moment leaves all or nothing."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    started = time.monotonic()
    log.info(
        "Converting %s (%.0f MB) once; this takes about half a minute", gguf.name, gguf.stat().st_size / 1e6
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    log.info("Converting %s: tokenizer read after %.0f s", gguf.name, time.monotonic() - started)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    log.info("Converting %s: weights read after %.0f s", gguf.name, time.monotonic() - started)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    try:
        partial.rename(target)
    except OSError:  # another process was faster; its directory is as good
        shutil.rmtree(partial, ignore_errors=True)
        if not (target / "config.json").is_file():
            raise
    log.info("Converted %s in %.0f s to %s", gguf.name, time.monotonic() - started, target)
