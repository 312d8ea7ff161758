"""Turns the growing text of an answer into pieces that may be sent, and cuts it at stop sequences.

It knows no tokenizer: it is fed the whole text decoded so far.
"""

from collections.abc import Sequence
from typing import Final

_UNFINISHED: Final = "\ufffd"
"""What a tokenizer decodes an incomplete UTF-8 sequence to."""


class AnswerText:
    """Holds back what may still become a stop sequence or the rest of a character."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = [sequence for sequence in stop if sequence]
        self._sent = 0
        self.stopped = False

    def push(self, text: str, *, last: bool = False) -> str:
        """The new piece to send; `text` is everything decoded so far. Sets `stopped` at a stop sequence."""
        if self.stopped:
            return ""
        found = [at for at in (text.find(sequence) for sequence in self._stop) if at >= 0]
        if found:
            self.stopped = True
            end = min(found)
        else:
            end = len(text) if last else len(text) - self._held_back(text)
        piece = text[self._sent : end]
        self._sent = max(self._sent, end)
        return piece

    def _held_back(self, text: str) -> int:
        unfinished = len(text) - len(text.rstrip(_UNFINISHED))
        if unfinished:
            return unfinished
        longest = max((len(sequence) for sequence in self._stop), default=0)
        for length in range(min(longest - 1, len(text)), 0, -1):
            if any(sequence.startswith(text[-length:]) for sequence in self._stop):
                return length
        return 0
