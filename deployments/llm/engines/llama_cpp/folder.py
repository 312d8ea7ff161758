"""Turns a folder in Hugging Face's format into a GGUF file with 8-bit weights. It knows no hub and no settings."""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from gguf import GGUFWriter, get_tensor_name_map
from gguf.vocab import SpecialVocab

from deployments.llm.durable_files import write_atomically
from deployments.llm.engines.llama_cpp.adapter import ARCHITECTURES, PERMUTED, permute_rows
from deployments.llm.engines.llama_cpp.bpe import UnknownTokenizerError, read_vocabulary
from deployments.llm.engines.llama_cpp.quantised import FILE_TYPES, Q8_0, add_weights, finish
from deployments.llm.engines.weights import WeightsMissingError

log = logging.getLogger(__name__)

_NEEDED: Final = ("config.json", "tokenizer.json", "*.safetensors")
_ELSE: Final = "name a GGUF file of it, or set GHOSTWRITER_LLM_CHAT_ENGINE=torch."
# What transformers calls a kind of model, and what llama.cpp does.
_KINDS: Final = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
_DTYPES: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


class UnknownArchitectureError(RuntimeError):
    """llama.cpp may know this model, this conversion does not; the message says what to do."""


def convert_folder(source: Path, target: Path) -> None:
    """Writes the GGUF file whole or not at all. Raises WeightsMissingError or UnknownArchitectureError."""
    started = time.monotonic()
    missing = [pattern for pattern in _NEEDED if not any(source.glob(pattern))]
    if missing:
        raise WeightsMissingError(
            f"{source} is incomplete: it has no {' and no '.join(missing)}. Fetch it again."
        )
    config = _read_json(source / "config.json")
    architecture = _KINDS.get(str(config.get("model_type")))
    if architecture is None:
        raise UnknownArchitectureError(
            f"{source.name} is a model of the kind {config.get('model_type')}, "
            f"which can't be converted ({', '.join(_KINDS)} can): {_ELSE}"
        )
    log.info("Converting %s once", source)
    with write_atomically(target) as partial:
        writer = GGUFWriter(partial, architecture, use_temp_file=True)
        _add_shape(writer, config)
        _add_vocabulary(writer, source, int(config["vocab_size"]))
        writer.add_file_type(FILE_TYPES[Q8_0])
        _add_tensors(writer, source, config, architecture)
        finish(writer)
    log.info("Converted %s in %.1f s to %s", source, time.monotonic() - started, target.name)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise WeightsMissingError(f"{path} can't be read ({error}): fetch it again.") from error


def _add_shape(writer: GGUFWriter, config: Mapping[str, Any]) -> None:
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise UnknownArchitectureError(
            f"This model scales its positions ({kind}), which is not converted: {_ELSE}"
        )
    try:
        heads = int(config["num_attention_heads"])
        writer.add_context_length(int(config["max_position_embeddings"]))
        writer.add_embedding_length(int(config["hidden_size"]))
        writer.add_block_count(int(config["num_hidden_layers"]))
        writer.add_feed_forward_length(int(config["intermediate_size"]))
        writer.add_head_count(heads)
        writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
        writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
        writer.add_vocab_size(int(config["vocab_size"]))
        width = int(config.get("head_dim") or config["hidden_size"] // heads)
    except KeyError as error:
        raise WeightsMissingError(f"config.json lacks {error}: fetch the folder again.") from error
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0))


def _add_vocabulary(writer: GGUFWriter, source: Path, size: int) -> None:
    try:
        vocabulary = read_vocabulary(_read_json(source / "tokenizer.json"), size)
    except UnknownTokenizerError as error:
        raise UnknownArchitectureError(
            f"The tokenizer of {source.name} can't be converted ({error}): {_ELSE}"
        ) from error
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.splitting)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    writer.add_add_bos_token(False)  # chat templates write it themselves
    SpecialVocab(source, load_merges=True, n_vocab=size).add_to_gguf(writer, quiet=True)


def _add_tensors(writer: GGUFWriter, source: Path, config: Mapping[str, Any], architecture: str) -> None:
    layers = int(config["num_hidden_layers"])
    heads = int(config["num_attention_heads"])
    rows = {"q_proj": heads, "k_proj": int(config.get("num_key_value_heads") or heads)}
    names = get_tensor_name_map(ARCHITECTURES[architecture], layers)
    written: set[str] = set()
    for file in sorted(source.glob("*.safetensors")):
        for full, values in read_tensors(file):
            if full.endswith("rotary_emb.inv_freq"):
                continue
            name = names.get_name(full, try_suffixes=(".weight", ".bias"))
            if name is None:
                raise UnknownArchitectureError(f"{file.name} holds {full}, which is not converted: {_ELSE}")
            module = full.rsplit(".", 2)[-2]
            if architecture in PERMUTED and module in rows:
                values = permute_rows(values, rows[module])
            add_weights(writer, name, values, Q8_0)
            written.add(name)
    wanted = {"token_embd.weight", "output_norm.weight"}
    wanted |= {f"blk.{layer}.{part}.weight" for layer in range(layers) for part in ("attn_q", "ffn_down")}
    if lost := sorted(wanted - written):
        raise WeightsMissingError(
            f"{source} lacks {len(lost)} tensors, {lost[0]} among them: fetch it again."
        )


def read_tensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Each tensor of a safetensors file in 32 bits; bfloat16 too, which numpy has not. Raises WeightsMissingError."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)
        header.pop("__metadata__", None)
        for name, told in header.items():
            begin, end = told["data_offsets"]
            raw = data[begin:end]
            if told["dtype"] == "BF16":
                values = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
            else:
                values = raw.view(_DTYPES[told["dtype"]]).astype(np.float32)
            yield name, values.reshape(told["shape"])
    except (ValueError, KeyError, OSError, MemoryError) as error:
        raise WeightsMissingError(f"{path} is damaged or incomplete ({error}): fetch it again.") from error
