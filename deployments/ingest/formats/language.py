"""The language of a text.

It knows no format.
"""

import re
from functools import cache
from typing import Any, Final

_LOOKED_AT: Final = 20_000  # characters
_ENOUGH: Final = 3_000  # letters and blanks; more don't make it surer
_LITTLE: Final = 120  # letters; a name or a line of code has no language
_SURE: Final = 0.9
_CODE: Final = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|<[^<>\n]{0,200}>", flags=re.S)
_NO_PROSE: Final = frozenset("/\\@_=")  # a word with one of them is a path, an address or code
_LETTERS: Final = re.compile(r"[^\W\d_]+")


def normalize_language(declared: str) -> str:
    """ISO 639-1 of a tag such as `pt-BR`; "" for what is none."""
    found = re.match(r"[A-Za-z]{2}(?=$|[-_])", declared.strip())
    return found[0].lower() if found else ""


def detect_language(text: str) -> str:
    """ISO 639-1, or "" where there is little text or none of the languages is likely."""
    words = (word for word in _CODE.sub(" ", text[:_LOOKED_AT]).split() if _NO_PROSE.isdisjoint(word))
    sample = " ".join(part for word in words for part in _LETTERS.findall(word))[:_ENOUGH]
    # A character of Chinese or Japanese says as much as several letters.
    if sum(4 if letter > "\u2e80" else 1 for letter in sample if letter != " ") < _LITTLE:
        return ""
    name, probability = _load().classify(sample)
    return name if probability >= _SURE and len(name) == 2 else ""


@cache
def _load() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
