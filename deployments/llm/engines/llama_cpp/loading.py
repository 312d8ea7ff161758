"""Loads a server with adapters converted for it; one that does not fit is left out and told why."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path

from deployments.llm.engines.llama_cpp.adapter import AdapterError, convert_adapter
from deployments.llm.engines.llama_cpp.header import Header
from deployments.llm.engines.llama_cpp.server import LlamaServer, ServerOptions
from deployments.llm.engines.ports import EngineError

log = logging.getLogger(__name__)


def load_server(
    weights: Path, header: Header, adapters: Mapping[str, Path], options: ServerOptions
) -> tuple[LlamaServer, dict[str, str]]:
    """The server, and the reason for each adapter that it has not. Raises EngineError where the base can't be loaded.

    `adapters` are folders as peft writes them, by model; `header` is that of the weights.
    """
    refused: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="ghostwriter-adapters-") as folder:
        files: dict[str, Path] = {}
        for number, (name, directory) in enumerate(adapters.items()):
            target = Path(folder) / f"{number}.gguf"
            try:
                convert_adapter(directory, header, target)
                files[name] = target
            except AdapterError as error:
                refused[name] = str(error)
        try:
            return LlamaServer(weights, list(files.values()), options), refused
        except EngineError:
            if not files:
                raise
        # What passed our checks and not llama.cpp's own: each adapter is tried alone.
        for name in list(files):
            try:
                LlamaServer(weights, [files[name]], options).close()
            except EngineError:
                refused[name] = "llama.cpp can't load this adapter on the base model."
                del files[name]
        return LlamaServer(weights, list(files.values()), options), refused
