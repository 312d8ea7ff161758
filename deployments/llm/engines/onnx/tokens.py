"""Texts as tokens, cut to what the model reads, without reading what is cut.

It knows no weights.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from tokenizers import Encoding, Tokenizer

from deployments.llm.engines.ports import Tokens
from deployments.llm.engines.token_numbers import check_tokens
from deployments.llm.engines.weights import WeightsMissingError

Ids = np.ndarray[Any, np.dtype[np.int32]]

_USUAL: Final = 8
"""Characters a token that nearly every text stays below."""
_MOST: Final = 128
"""Characters a token that are read at most: of a word longer than 100 characters WordPiece makes one token."""
_WORD: Final = 100
"""Tokens that a word cut in two may change."""
_AT_ONCE: Final = 64

_loaded: dict[str, Tokenizer] = {}
_loading: Final = threading.Lock()


class TokenReader:
    """A model's tokenizer with the model's limit; any thread may call it."""

    def __init__(self, file: Path, max_tokens: int) -> None:
        self._tokenizer, self._max = _load(file), max_tokens
        self._room = max_tokens - self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self._pair_room = max_tokens - self._tokenizer.num_special_tokens_to_add(is_pair=True)
        self._size = self._tokenizer.get_vocab_size(with_added_tokens=True)

    def read(self, inputs: Sequence[str | Tokens]) -> list[Ids]:
        """Token ids, those of a sentence's begin and end included; token lists are taken as they are, cut at the end.

        Raises ValueError for a token that the model does not have.
        """
        for given in inputs:
            if not isinstance(given, str):
                check_tokens(given, self._size)
        texts = self._encode((given for given in inputs if isinstance(given, str)), self._room)
        return [
            np.array(
                self._tokenizer.post_process(next(texts)).ids
                if isinstance(given, str)
                else given[: self._max],
                np.int32,
            )
            for given in inputs
        ]

    def read_pairs(
        self, query: str, documents: Sequence[str], most: int | None = None
    ) -> list[tuple[Ids, Ids]]:
        """Token ids and segments of the query with each document; the document is cut, to `most` tokens or to what
        room is left. A query may have half the room: what is longer is cut too."""
        asked = next(self._encode([query], self._pair_room // 2))
        room = self._pair_room - len(asked.ids)
        pairs = []
        for document in self._encode(documents, min(most or room, room)):
            pair = self._tokenizer.post_process(asked, document)
            pairs.append((np.array(pair.ids, np.int32), np.array(pair.type_ids, np.int32)))
        return pairs

    def _encode(self, texts: Iterator[str] | Sequence[str], room: int) -> Iterator[Encoding]:
        """The first tokens of each text, without special ones. The tokenizer would read all of a text before it cuts,
        at fifty times the text's memory, so a beginning is read, and more only where that gave too few."""
        rest = iter(texts)
        while some := list(islice(rest, _AT_ONCE)):
            begun = [_cut(text, room * _USUAL) for text in some]
            encoded = self._tokenizer.encode_batch_fast(begun, add_special_tokens=False)
            for text, one in zip(some, encoded, strict=True):
                if len(text) > room * _USUAL and len(one.ids) < room + _WORD:
                    one = self._tokenizer.encode(_cut(text, room * _MOST), add_special_tokens=False)
                one.truncate(room)
                yield one


def _cut(text: str, characters: int) -> str:
    # Half a surrogate pair is no character: the tokenizer would refuse it.
    return text[:characters].encode(errors="replace").decode()


def _load(file: Path) -> Tokenizer:
    """The tokenizer; models with the same one (most BERTs) share it: it takes 10 MB."""
    try:
        described = json.loads(file.read_bytes())
        described.update(truncation=None, padding=None)
        text = json.dumps(described, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        with _loading:
            if digest not in _loaded:
                _loaded[digest] = Tokenizer.from_str(text)
            return _loaded[digest]
    except Exception as error:  # the library raises no narrower one
        raise WeightsMissingError(f"{file} is not a tokenizer: {error}") from error
