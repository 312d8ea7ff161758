"""Which tokenizers become llama.cpp's."""

import pytest

from deployments.llm.engines.llama_cpp.bpe import UnknownTokenizerError, name_splitting, read_vocabulary

LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
BARE = {**LEVEL, "use_regex": False}
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(regex: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": regex}}


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([LEVEL], "gpt-2"),
        ([{"type": "Digits", "individual_digits": True}, LEVEL], "smollm"),
        ([split(QWEN), BARE], "qwen2"),
        ([split(QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")), BARE], "llama-bpe"),
    ],
)
def test_splittings_have_names(steps: list, name: str) -> None:
    assert name_splitting({"type": "Sequence", "pretokenizers": steps}) == name


@pytest.mark.parametrize(
    "steps", [[], [BARE], [{"type": "Metaspace"}], [split("x"), BARE], [{"type": "Digits"}, LEVEL]]
)
def test_an_unknown_splitting_is_refused(steps: list) -> None:
    with pytest.raises(UnknownTokenizerError):
        name_splitting({"type": "Sequence", "pretokenizers": steps})


def test_tokens_that_the_model_has_and_the_tokenizer_not_are_unused() -> None:
    tokenizer = {
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}},
        "decoder": {"type": "ByteLevel"},
        "pre_tokenizer": LEVEL,
        "added_tokens": [{"id": 2, "content": "<end>", "special": True}],
    }
    vocabulary = read_vocabulary(tokenizer, 4)
    assert (vocabulary.tokens, vocabulary.kinds) == (["a", "b", "<end>", "[PAD3]"], [1, 1, 3, 5])
    for change in ({"model": {"type": "Unigram"}}, {"decoder": None}, {"normalizer": {"type": "Lowercase"}}):
        with pytest.raises(UnknownTokenizerError):
            read_vocabulary({**tokenizer, **change}, 4)
