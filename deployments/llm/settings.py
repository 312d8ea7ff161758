"""Settings that only the LLM server has; the shared ones are in `shared.settings`.

It knows no engine and no route.
"""

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class LlmSettings(BaseSettings):
    """Every setting is an environment variable `GHOSTWRITER_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="GHOSTWRITER_", extra="ignore", populate_by_name=True)

    llm_host: str = "127.0.0.1"
    llm_port: int = Field(default=8000, ge=1, le=65535)
    # Which engine answers. auto: torch where it finds a GPU, else llama.cpp where the CPU can run it, else torch.
    llm_chat_engine: Literal["auto", "llama_cpp", "torch"] = "auto"
    llm_embedding_engine: Literal["onnx", "torch"] = "onnx"
    # Empty: the weights of the installed package. Else a hub id or a folder in Hugging Face's format, or a GGUF file.
    # The second names are those of version 0.1.
    llm_base_model: str = Field(
        default="",
        validation_alias=AliasChoices("GHOSTWRITER_LLM_BASE_MODEL", "GHOSTWRITER_LLM_CHAT_WEIGHTS"),
    )
    llm_embedding_model: str = Field(
        default="",
        validation_alias=AliasChoices("GHOSTWRITER_LLM_EMBEDDING_MODEL", "GHOSTWRITER_LLM_EMBEDDING_WEIGHTS"),
    )
    # SHA-256 of a file or of a folder (docs/engines.md says how), below of the file of weights; empty: any.
    llm_base_model_sha256: str = ""
    llm_rerank_model: str = ""
    llm_embedding_model_sha256: str = ""
    llm_rerank_model_sha256: str = ""
    cache_dir: Path = Path("~/.cache/ghostwriter")
    llm_threads: int = Field(
        default=0,
        ge=0,
        description="CPU threads for answers, and for vectors; 0: half the cores, but two of two",
    )
    llm_trainer_threads: int = Field(
        default=0, ge=0, description="CPU threads of a job; 0: all cores but one"
    )
    # On llama.cpp each takes its cache at the start: 47 MB with the bundled model and 2,048 tokens.
    llm_max_batch: int = Field(default=6, ge=1, description="generations that run at once")
    # The bundled model's cache takes 45 KiB a token in float32: 1.5 GB.
    llm_max_batch_tokens: int = Field(
        default=32_768, ge=1, description="of torch: prompts, answers and padding that are in memory at once"
    )
    llm_max_queue: int = Field(default=32, ge=1, description="generations that run or wait; more get a 429")
    llm_default_max_tokens: int = Field(
        default=1024, ge=1, description="longest answer where the caller names no limit"
    )
    llm_max_model_len: int = Field(
        default=2048,
        ge=64,
        description="tokens of a prompt with its answer, and of a training example; memory grows with them",
    )
    llm_max_models: int = Field(
        default=2, ge=1, description="fine-tuned models kept in memory: champion and challenger"
    )
    llm_max_file_bytes: int = Field(default=64 * 1024 * 1024, ge=1, description="of one upload")
    llm_max_body_bytes: int = Field(
        default=16 * 1024 * 1024, ge=1, description="of any other request; 2,048 texts to embed are some 4 MB"
    )
    llm_trainer_python: Path = Path(".venv-trainer/bin/python")
    llm_trainer_nice: int = Field(default=5, ge=0, le=19)
    llm_training_timeout: float = Field(
        default=6 * 3600, gt=0, description="seconds a fine-tuning job may run"
    )
    log_level: str = "INFO"
    # None: llm_keys.json in the folder of secrets.
    llm_keys_file: Path | None = None
    llm_request_timeout: float = Field(
        default=600, gt=0, description="seconds that the work for a request may take"
    )
    llm_drain_seconds: float = Field(
        default=5, ge=0, description="that running requests have to end once the server is told to stop"
    )
    llm_max_embedding_queue: int = Field(
        default=16,
        ge=1,
        description="requests for vectors that run or wait, and so many for rankings and scores",
    )

    llm_max_connections: int = Field(
        default=128, ge=8, description="that are open at once; seven eighths of them may have a request"
    )
    llm_head_timeout: float = Field(default=10, gt=0, description="seconds for a request's head")
    llm_body_timeout: float = Field(
        default=30, gt=0, description="seconds for a request's body, and one more for each 16 KiB that came"
    )
    llm_send_timeout: float = Field(
        default=60, gt=0, description="seconds in which a client must take 16 KiB of an answer that waits"
    )

    @property
    def most_requests(self) -> int:
        """Requests that may run at once. The other connections are for probes, and for refusals in words."""
        return self.llm_max_connections - self.llm_max_connections // 8

    @property
    def models_dir(self) -> Path:
        """Where converted weights are kept."""
        return self.cache_dir.expanduser() / "models"
