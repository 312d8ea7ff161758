"""A folder with an encoder in Hugging Face's layout: where its files are and what its configuration says.

It reads no weights.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from deployments.llm.engines.digests import check_digest
from deployments.llm.engines.weights import WeightsMissingError, expand, find_weight_file

Pooling = Literal["mean", "cls"]

_SMALL_FILES: Final = ("*.json", "1_Pooling/config.json")
_POOLINGS: Final[dict[str, Pooling]] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
_MODULES: Final = frozenset({"Transformer", "Pooling", "Normalize"})
_MOST_TOKENS: Final = 8192


@dataclass(frozen=True)
class ModelFolder:
    """The folder's weight file and its tokenizer, both there, and its config.json (empty where there is none)."""

    path: Path
    weights: Path
    tokenizer: Path
    config: dict[str, Any]


def open_folder(source: str, sha256: str = "", setting: str = "") -> ModelFolder:
    """A folder, or the snapshot of a hub id, which is downloaded where it must be.

    `setting` names where the digest of its file of weights comes from. Raises WeightsMissingError, in words, for what
    is missing, unreadable or not of that digest.
    """
    path = Path(expand(source))
    if not path.exists():
        path = _download(source)
    if not path.is_dir():
        raise WeightsMissingError(f"{path} is not a folder with a model in Hugging Face's layout.")
    weights = find_weight_file(path)
    if weights.suffix not in (".safetensors", ".onnx"):
        raise WeightsMissingError(f"{weights} is neither model.safetensors nor model.onnx.")
    tokenizer = path / "tokenizer.json"
    if not tokenizer.is_file():
        raise WeightsMissingError(f"{path} holds no tokenizer.json: save the model with its fast tokenizer.")
    check_digest(weights, sha256, setting)
    return ModelFolder(path, weights, tokenizer, read_json(path / "config.json"))


def read_pooling(folder: ModelFolder) -> Pooling:
    """How vectors are made of the tokens': as 1_Pooling says, else the mean. Raises WeightsMissingError."""
    modules = read_json(folder.path / "modules.json", [])
    kinds = {str(module.get("type", "")).rpartition(".")[2] for module in modules}
    if kinds - _MODULES:
        raise WeightsMissingError(
            f"{folder.path} has layers that only sentence-transformers computes: {', '.join(sorted(kinds - _MODULES))}."
        )
    config = read_json(folder.path / "1_Pooling" / "config.json")
    chosen = {name for name, on in config.items() if name.startswith("pooling_mode_") and on is True}
    if not chosen:
        return "mean"
    if len(chosen) > 1 or not chosen <= _POOLINGS.keys():
        raise WeightsMissingError(
            f"{folder.path} pools by {', '.join(sorted(chosen))}: mean and cls are possible."
        )
    return _POOLINGS[chosen.pop()]


def read_max_tokens(folder: ModelFolder) -> int:
    """How many tokens the model reads: what sentence-transformers would give it, else all its positions."""
    told = (
        read_json(folder.path / "sentence_bert_config.json").get("max_seq_length"),
        folder.config.get("max_position_embeddings"),
        read_json(folder.path / "tokenizer_config.json").get("model_max_length"),
    )
    # RoBERTa's first positions are taken by its padding.
    taken = folder.config.get("pad_token_id", 0) + 1 if is_roberta(folder.config) else 0
    limits = [int(limit) - (taken if place == 1 else 0) for place, limit in enumerate(told) if limit]
    return min([*limits, _MOST_TOKENS]) if limits else 512


def is_truncatable(folder: ModelFolder) -> bool:
    """Whether the first numbers of its vectors are vectors too; told as vLLM has it told."""
    return bool(folder.config.get("is_matryoshka") or folder.config.get("matryoshka_dimensions"))


def is_roberta(config: dict[str, Any]) -> bool:
    """Whether positions are counted after the padding's."""
    return config.get("model_type") in ("roberta", "xlm-roberta", "camembert")


def read_json(path: Path, default: Any = None) -> Any:
    """A JSON file, or the default (an empty object) where there is none. Raises WeightsMissingError."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {} if default is None else default
    except ValueError as error:
        raise WeightsMissingError(f"{path} is not JSON: {error}.") from error


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        path = Path(snapshot_download(hub_id, allow_patterns=[*_SMALL_FILES, "model.safetensors"]))
        if not (path / "model.safetensors").is_file():
            onnx = ["model.onnx", "onnx/model.onnx", "model.onnx_data", "onnx/model.onnx_data"]
            path = Path(snapshot_download(hub_id, allow_patterns=[*_SMALL_FILES, *onnx]))
        return path
    except HFValidationError as error:
        raise WeightsMissingError(f"There is no folder {hub_id}, and no hub id is spelled so.") from error
    except Exception as error:  # its errors have no common base
        raise WeightsMissingError(f"{hub_id} could not be had from the hub: {error}") from error
