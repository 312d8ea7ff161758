"""The bare libraries doing what the LLM server does, in a process of their own: `python -m benchmarks.llm_bare PART`.

Run it with the server's interpreter. It prints one line of JSON.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import psutil

from benchmarks.llm_questions import read_chunks
from benchmarks.llm_rounds import Answer, measure, run_rounds
from deployments.llm.settings import LlmSettings
from shared import contracts


def run_chat() -> dict[str, float]:
    """xllamacpp with as many slots, threads and tokens of context as the server has."""
    import xllamacpp

    from deployments.llm.engines.llama_cpp.vocabulary import choose_threads
    from deployments.llm.engines.llama_cpp.weights import prepare_weights

    settings = LlmSettings()
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(prepare_weights(settings))
    parameters.n_parallel = settings.llm_max_batch
    parameters.n_ctx = settings.llm_max_model_len * settings.llm_max_batch
    parameters.kv_unified = False
    threads = settings.llm_threads or choose_threads(os.cpu_count() or 2)
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.verbosity = -1
    server = xllamacpp.Server(parameters)

    def ask(body: Mapping[str, Any]) -> Answer:
        started, first, usage = time.perf_counter(), 0.0, {}

        def take(chunk: Any) -> bool:
            nonlocal first
            for part in chunk if isinstance(chunk, list) else [chunk]:
                if part.get("usage"):
                    usage.update(part["usage"])
                if not first and any(choice["delta"].get("content") for choice in part.get("choices", [])):
                    first = time.perf_counter() - started
            return False

        server.handle_chat_completions(dict(body), take)
        seconds = time.perf_counter() - started
        return Answer(seconds, first, usage["prompt_tokens"], usage["completion_tokens"])

    figures = run_rounds(ask)
    figures["pss"] = psutil.Process().memory_full_info().pss / 2**20
    return figures


def run_embeddings() -> dict[str, float]:
    """The embedding engine without a server, by model; chunks a second."""
    from deployments.llm.engines.onnx.embedder import build_engine

    engine = build_engine(LlmSettings())
    engine.load()
    texts = [chunk.text for chunk in read_chunks()][:64]
    return {
        model: len(texts) / measure(lambda model=model: engine.embed(model, texts)) for model in engine.models
    }


def run_rerank() -> dict[str, float]:
    """The rerank engine without a server; pairs a second."""
    from deployments.llm.engines.onnx.reranker import build_engine

    engine = build_engine(LlmSettings())
    engine.load()
    texts = [chunk.text for chunk in read_chunks()][:16]
    seconds = measure(lambda: engine.rerank("How does a deferrable operator wait?", texts))
    return {contracts.LOCAL_RERANK_MODEL: len(texts) / seconds}


if __name__ == "__main__":
    parts = {"chat": run_chat, "embeddings": run_embeddings, "rerank": run_rerank}
    print(json.dumps(parts[sys.argv[1]]()))
    sys.stdout.flush()
    os._exit(0)  # the library's threads outlive it
