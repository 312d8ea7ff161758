"""Digests of weights, so that a name in the settings means exactly one file or folder."""

import hashlib
from pathlib import Path
from typing import Final

from deployments.llm.engines.weights import WeightsMissingError

BASE_SETTING: Final = "GHOSTWRITER_LLM_BASE_MODEL_SHA256"
EMBEDDING_SETTING: Final = "GHOSTWRITER_LLM_EMBEDDING_MODEL_SHA256"
RERANK_SETTING: Final = "GHOSTWRITER_LLM_RERANK_MODEL_SHA256"
_IN_FOLDERS: Final = ("config.json", "tokenizer.json", "tokenizer_config.json", "*.safetensors", "*.onnx")


class WrongDigestError(WeightsMissingError):
    """The weights are not those that the settings name; the message says both digests."""


def compute_digest(path: Path) -> str:
    """SHA-256 in hex: of a file, or of the list that `sha256sum` prints of a folder's weights, sorted by name."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    names = sorted({file.name for pattern in _IN_FOLDERS for file in path.glob(pattern)})
    listing = "".join(f"{compute_digest(path / name)}  {name}\n" for name in names)
    return hashlib.sha256(listing.encode()).hexdigest()


def check_digest(path: Path, expected: str, setting: str, known: str = "") -> None:
    """Raises WrongDigestError where a digest is expected and it is another one; an empty one allows any weights.

    `known` is the path's digest where it was computed already.
    """
    if not expected:
        return
    digest = known or compute_digest(path)
    if digest != expected.strip().lower().removeprefix("sha256:"):
        raise WrongDigestError(
            f"{path} has the SHA-256 {digest}, but {setting} says {expected.strip()}: "
            "fetch these weights again, or correct the setting."
        )
