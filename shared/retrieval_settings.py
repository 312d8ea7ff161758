"""How knowledge is searched, as `content/retrieval.toml` says it; without the file the defaults hold.

It knows no store and no provider.
"""

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.contracts import LOCAL_EMBEDDING_MODEL, LOCAL_RERANK_MODEL


class RetrievalSettingsError(ValueError):
    """The file can't be used; the message names the file, the key and what is expected."""


class _Section(BaseModel):
    # A misspelt key must not be ignored silently: the user would wonder why nothing changes.
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False)


class Search(_Section):
    """What the store is asked for."""

    hits: int = Field(
        default=40, ge=1, le=500
    )  # one document may hold many of the best, some may be outdated


class Rerank(_Section):
    """What a reranker reads again; no model, no reranking."""

    model: str = LOCAL_RERANK_MODEL
    candidates: int = Field(default=8, ge=1, le=100)
    window_characters: int = Field(default=600, ge=50, le=4000)
    least_relevance: float = Field(default=0.1, ge=0, le=1)  # of the best passage, for a topic to be answered


class Embedding(_Section):
    """What is peculiar to an embedding model."""

    instruction: str = ""  # what the model wants before a question
    alpha: float = Field(default=0.6, ge=0, le=1)  # weight of the vector beside the words
    least_relevance: float = Field(default=0.0, ge=0, le=1)  # a cosine, where there is no reranker


class Passages(_Section):
    """What a prompt may carry; how many passages is the voice's `top_k`."""

    max_tokens: int = Field(default=1200, ge=50)  # the first passage is always carried
    likeness: float = Field(
        default=0.8, gt=0, le=1
    )  # share of common word triples that makes two passages one


KNOWN_MODELS: Final[Mapping[str, Embedding]] = {
    LOCAL_EMBEDDING_MODEL: Embedding(least_relevance=0.25),
    "bge-small-en-v1.5": Embedding(
        instruction="Represent this sentence for searching relevant passages: ",
        alpha=0.5,
        least_relevance=0.59,
    ),
}


class RetrievalSettings(_Section):
    """Everything in `retrieval.toml`."""

    search: Search = Search()
    rerank: Rerank = Rerank()
    embedding: Mapping[str, Embedding] = KNOWN_MODELS
    passages: Passages = Passages()

    def find_embedding(self, model: str) -> Embedding:
        """What is said of a model; defaults for one that nothing is said of."""
        return self.embedding.get(model) or KNOWN_MODELS.get(model) or Embedding()


def load_retrieval_settings(path: Path) -> RetrievalSettings:
    """The settings in the file, or the defaults where there is none; raises RetrievalSettingsError."""
    try:
        tables = tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        return RetrievalSettings()
    except OSError as error:
        raise RetrievalSettingsError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RetrievalSettingsError(
            f"{path}: not UTF-8 (byte {error.start}); save the file as UTF-8"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise RetrievalSettingsError(f"{path}: not valid TOML: {error}") from error
    try:
        return RetrievalSettings.model_validate(tables)
    except ValidationError as error:
        problems = "; ".join(_describe(item) for item in error.errors())
        raise RetrievalSettingsError(f"{path}: {problems}") from None


def _describe(item: Mapping[str, Any]) -> str:
    *table, key = (str(part) for part in item["loc"])
    where = f"[{'.'.join(table)}] {key}" if table else f"[{key}]"
    if item["type"] != "extra_forbidden":
        return f"{where}: {item['msg']}"
    keys = _list_keys(table)
    near = get_close_matches(key, keys, n=1)
    return f"{where}: there is no such key" + (f"; did you mean {near[0]}?" if near else "")


def _list_keys(table: list[str]) -> list[str]:
    if not table:
        return list(RetrievalSettings.model_fields)
    sections: dict[str, type[BaseModel]] = {
        "search": Search,
        "rerank": Rerank,
        "embedding": Embedding,
        "passages": Passages,
    }
    section = sections.get(table[0])
    return list(section.model_fields) if section else []
