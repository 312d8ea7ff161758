"""Makes sure that there is a GGUF file to load: the packaged one with 8-bit weights, the user's own, or a folder's."""

import logging
from pathlib import Path
from typing import Final

from deployments.llm.engines.digests import check_digest, compute_digest
from deployments.llm.engines.llama_cpp.quantised import requantise
from deployments.llm.engines.weights import WeightsMissingError, locate_base_weights
from deployments.llm.settings import LlmSettings

log = logging.getLogger(__name__)

_FORM: Final = "q8_0-1"
"""In the names of converted files: another conversion makes another file."""


def prepare_weights(settings: LlmSettings) -> Path:
    """The GGUF file to load, converted where need be (once, some seconds). Raises WeightsMissingError,
    WrongDigestError or UnknownArchitectureError, whose words say what to do."""
    configured = settings.llm_base_model
    source = Path(locate_base_weights(configured))
    if not source.exists():
        source = _fetch(configured)
    digest = compute_digest(source)
    check_digest(source, digest, settings.llm_base_model_sha256, "GHOSTWRITER_LLM_BASE_MODEL_SHA256")
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


def _fetch(hub_id: str) -> Path:
    """The folder of a hub id, downloaded into the hub's own cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    log.info("Fetching %s", hub_id)
    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsMissingError(
            f"GHOSTWRITER_LLM_BASE_MODEL={hub_id} is neither a path that exists nor a model that can be fetched "
            f"({type(error).__name__}: {error})."
        ) from error
