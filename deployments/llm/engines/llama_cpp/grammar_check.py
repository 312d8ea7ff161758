"""Tries schemas out: llama.cpp leaves a grammar that it can't hold to out, without a word."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from deployments.llm.engines.llama_cpp.schema import (
    passes_self_test,
    write_grammar,
    write_probe,
    write_self_test,
)
from deployments.llm.engines.llama_cpp.server import LlamaServer
from deployments.llm.engines.ports import UnsupportedError

log = logging.getLogger(__name__)

_REMEMBERED: Final = 64


class GrammarCheck:
    """`impossible_token` is one that no JSON text begins with. Safe in several threads."""

    def __init__(self, impossible_token: int) -> None:
        self._impossible = impossible_token
        self._lock = threading.Lock()
        self._holds: OrderedDict[str, bool] = OrderedDict()
        self._works: bool | None = None

    def check(
        self, schema: Mapping[str, Any], server: LlamaServer, lora: Sequence[Mapping[str, float]]
    ) -> str:
        """The schema's grammar. Raises UnsupportedError where answers can't be held to it. Blocks for a token."""
        grammar = write_grammar(schema)
        with self._lock:
            holds = self._holds.get(grammar)
        if holds is None:
            self._check_tokenizer(server, lora)
            holds = self._try(grammar, server, lora)
            with self._lock:
                self._holds[grammar] = holds
                while len(self._holds) > _REMEMBERED:
                    self._holds.popitem(last=False)
        if not holds:
            raise UnsupportedError(
                "No answer can be held to this JSON schema: nothing satisfies it, it is too deep, "
                "or it uses a keyword that the engine does not know.",
                "response_format",
            )
        return grammar

    def _check_tokenizer(self, server: LlamaServer, lora: Sequence[Mapping[str, float]]) -> None:
        """A vocabulary that puts a space before every text can't be held to anything."""
        if self._works is None:
            texts: list[str] = []

            def keep(chunk: dict[str, Any]) -> bool:
                texts.append(chunk["choices"][0]["text"])
                return False

            server.complete({**write_self_test(self._impossible), "lora": list(lora)}, keep)
            self._works = passes_self_test("".join(texts))
        if not self._works:
            raise UnsupportedError(
                "Answers of this base model can't be held to JSON: its vocabulary does not go with grammars. "
                "GHOSTWRITER_LLM_CHAT_ENGINE=torch may serve it.",
                "response_format",
            )

    def _try(self, grammar: str, server: LlamaServer, lora: Sequence[Mapping[str, float]]) -> bool:
        told: list[int] = []

        def keep(chunk: dict[str, Any]) -> bool:
            told.extend(
                int(one["id"]) for one in (chunk["choices"][0]["logprobs"] or {}).get("content") or []
            )
            return False

        probe = write_probe(grammar, self._impossible, self._impossible)
        server.complete({**probe, "lora": list(lora)}, keep)
        return bool(told) and told[0] != self._impossible
