"""Which engines there are, by role: adding one is a folder and a line here.

Each is named by the function that builds it from settings; it is imported when it is chosen.
"""

import pkgutil
from typing import Any, Final

from deployments.llm.engines.ports import Engine
from deployments.llm.engines.roles import Engines
from deployments.llm.settings import LlmSettings

_HERE: Final = "deployments.llm.engines"
CHAT: Final = {
    "llama_cpp": f"{_HERE}.llama_cpp.engine:build_engine",
    "torch": f"{_HERE}.torch.engine:build_engine",
}
# Scorers are built with the chat engine, whose models they score; one that scores itself is both.
SCORING: Final = {"torch": f"{_HERE}.scoring_process:build_engine"}
EMBEDDING: Final = {
    "onnx": f"{_HERE}.onnx.embedder:build_engine",
    "torch": f"{_HERE}.torch.embedder:build_engine",
}
RERANK: Final = {"onnx": f"{_HERE}.onnx.reranker:build_engine"}


def build_engines(settings: LlmSettings, chat: str) -> Engines:
    """The engines that the settings name, and the chat engine named; nothing is loaded yet."""
    chat_engine = _build(CHAT[chat], settings)
    return Engines(
        chat=chat_engine,
        scoring=_build(SCORING["torch"], settings, chat_engine),
        embedding=_build(EMBEDDING[settings.llm_embedding_engine], settings),
        rerank=_build(RERANK["onnx"], settings),
    )


def _build(name: str, settings: LlmSettings, *others: Engine) -> Any:
    return pkgutil.resolve_name(name)(settings, *others)
