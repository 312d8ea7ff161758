"""Makes sure that there is a GGUF file to load: the packaged one with 8-bit weights, the user's own, or a folder's."""

from pathlib import Path
from typing import Final

from deployments.llm.engines.digests import BASE_SETTING, check_digest, compute_digest
from deployments.llm.engines.llama_cpp.quantised import requantise
from deployments.llm.engines.weights import fetch_base_weights, locate_base_weights
from deployments.llm.settings import LlmSettings

_FORM: Final = "q8_0-1"
"""In the names of converted files: another conversion makes another file."""


def prepare_weights(settings: LlmSettings) -> Path:
    """The GGUF file to load, converted where need be (once, some seconds). Raises WeightsMissingError,
    WrongDigestError or UnknownArchitectureError, whose words say what to do."""
    configured = settings.llm_base_model
    source = Path(locate_base_weights(configured))
    if not source.exists():
        source = fetch_base_weights(configured)
    digest = compute_digest(source)
    check_digest(source, settings.llm_base_model_sha256, BASE_SETTING, digest)
    if source.is_file() and configured:
        return source
    target = settings.models_dir / f"{source.stem.lower()}-{digest[:16]}-{_FORM}.gguf"
    if not target.is_file():
        if source.is_file():
            requantise(source, target)
        else:
            from deployments.llm.engines.llama_cpp.folder import convert_folder

            convert_folder(source, target)
    return target
