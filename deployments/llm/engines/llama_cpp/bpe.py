"""A byte-level BPE vocabulary from tokenizer.json, in llama.cpp's terms. Plain functions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
_LETTERS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# How a text is split into words before BPE, and llama.cpp's name for it.
_SPLITTINGS: Final = {
    _LETTERS + r"|\p{N}{1,3}" + _REST: "llama-bpe",
    _LETTERS + r"|\p{N}" + _REST: "qwen2",
}


class UnknownTokenizerError(ValueError):
    """No byte-level BPE, or one that splits words in a way that has no name here."""


@dataclass(frozen=True)
class Vocabulary:
    """As many tokens as the model has rows, with their kinds, and the name of the splitting into words."""

    tokens: list[str]
    kinds: list[int]
    splitting: str


def read_vocabulary(tokenizer: Mapping[str, Any], size: int) -> Vocabulary:
    """The vocabulary of a parsed tokenizer.json for a model with `size` rows. Raises UnknownTokenizerError."""
    model = tokenizer.get("model") or {}
    if model.get("type") != "BPE" or (tokenizer.get("decoder") or {}).get("type") != "ByteLevel":
        raise UnknownTokenizerError(f"it is {model.get('type')}, not a byte-level BPE")
    if tokenizer.get("normalizer") not in (None, {"type": "NFC"}):
        raise UnknownTokenizerError("it normalizes texts")
    tokens = [f"[PAD{number}]" for number in range(size)]
    kinds = [_UNUSED] * size
    for text, number in model["vocab"].items():
        tokens[number], kinds[number] = text, _NORMAL
    for added in tokenizer.get("added_tokens", []):
        if added["id"] < size:
            tokens[added["id"]] = added["content"]
            kinds[added["id"]] = _CONTROL if added["special"] else _USER_DEFINED
    return Vocabulary(tokens, kinds, name_splitting(tokenizer.get("pre_tokenizer") or {}))


def name_splitting(pre_tokenizer: Mapping[str, Any]) -> str:
    """llama.cpp's name for how a text is split. Raises UnknownTokenizerError."""
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if (
        kinds == ["Digits", "ByteLevel"]
        and steps[0].get("individual_digits")
        and steps[1].get("use_regex", True)
    ):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        name = _SPLITTINGS.get((steps[0].get("pattern") or {}).get("Regex", ""))
        if name:
            return name
    raise UnknownTokenizerError("it splits words in a way that has no name here")
