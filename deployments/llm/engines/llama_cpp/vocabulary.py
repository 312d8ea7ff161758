"""What a GGUF file says of its model: vocabulary, chat template, context. It reads no weights."""

from pathlib import Path
from typing import Final

from deployments.llm.engines.llama_cpp.chat_text import ChatText
from deployments.llm.engines.llama_cpp.header import Header, read_header

_CONTROL: Final = 3
_DEFAULT_CONTEXT: Final = 2048


class Vocabulary:
    """Raises NotGgufError for a file that is none."""

    def __init__(self, weights: Path) -> None:
        self.header: Header = read_header(weights)
        metadata = self.header.metadata
        self._texts: list[str] = metadata.get("tokenizer.ggml.tokens", [])
        kinds: list[int] = metadata.get("tokenizer.ggml.token_type", [])
        special = {self._texts[token]: token for token, kind in enumerate(kinds) if kind == _CONTROL}
        self.chat_text = ChatText(
            metadata.get("tokenizer.chat_template"),
            special,
            bos=self._name(metadata.get("tokenizer.ggml.bos_token_id")),
            eos=self._name(metadata.get("tokenizer.ggml.eos_token_id")),
        )
        self.context = int(self.header.get("context_length", _DEFAULT_CONTEXT))
        # No JSON text begins with a capital letter or a small x.
        self.impossible_in_json = next(
            (token for token, text in enumerate(self._texts) if text.isascii() and text[:1].isupper()), 0
        )

    def _name(self, token: int | None) -> str:
        return self._texts[token] if token is not None and 0 <= token < len(self._texts) else ""

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return len(self._texts)


def choose_threads(cores: int) -> int:
    """Threads for answers. llama.cpp is bound by memory: beyond a few, half the cores do (they are often pairs)."""
    return cores if cores <= 2 else max(2, cores // 2)
