"""The settings of the search, and what is said of a file that can't be used."""

import re
from pathlib import Path

import pytest

from shared.retrieval_settings import RetrievalSettings, RetrievalSettingsError, load_retrieval_settings

BUNDLED = Path(__file__).parents[3] / "content" / "retrieval.toml"


def test_the_bundled_file_says_what_holds_without_it(tmp_path: Path) -> None:
    assert (
        load_retrieval_settings(BUNDLED)
        == load_retrieval_settings(tmp_path / "none.toml")
        == RetrievalSettings()
    )


def test_a_table_of_a_model_says_what_is_peculiar_to_it(tmp_path: Path) -> None:
    path = tmp_path / "retrieval.toml"
    path.write_text('[rerank]\nmodel = ""\n[embedding."mine"]\ninstruction = "query: "\n')
    settings = load_retrieval_settings(path)
    assert settings.rerank.model == ""
    assert settings.find_embedding("mine").instruction == "query: "
    assert settings.find_embedding("bge-small-en-v1.5").instruction.endswith("passages: ")
    assert settings.find_embedding("nothing-is-known-of") == settings.find_embedding("nor-of-this")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[rerank]\ncandidate = 3", "[rerank] candidate: there is no such key; did you mean candidates?"),
        ("[reranks]\nmodel = 'x'", "[reranks]: there is no such key; did you mean rerank?"),
        (
            "[rerank]\nleast_relevance = 3",
            "[rerank] least_relevance: Input should be less than or equal to 1",
        ),
        ("[embedding.mine]\nalfa = 1", "[embedding.mine] alfa: there is no such key; did you mean alpha?"),
        ("[search]\nhits = 'many'", "[search] hits: Input should be a valid integer"),
        ("[passages]\nmax_tokens = 1", "[passages] max_tokens: Input should be greater"),
        ("search = 3", "[search]: Input should be a valid dictionary"),
        ("[search", "not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_file_and_key(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "retrieval.toml"
    path.write_text(content)
    with pytest.raises(RetrievalSettingsError, match=re.escape(told)) as caught:
        load_retrieval_settings(path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "retrieval.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RetrievalSettingsError, match="not UTF-8"):
        load_retrieval_settings(path)
    with pytest.raises(RetrievalSettingsError, match="can't be read"):
        load_retrieval_settings(tmp_path)
