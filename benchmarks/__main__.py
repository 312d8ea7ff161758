"""`make bench`: figures of the running stack, as ratios to the bare libraries where there is one.

It asserts nothing: a figure is for reading, a test for failing.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from cli.connection import load_settings
from shared.ledger.sessions import create_sessions
from shared.llm.openai import OpenAiLlm
from shared.prompt import build_messages, choose_decoding
from shared.retrieval import retrieve
from shared.retrieval_settings import load_retrieval_settings
from shared.settings import Settings
from shared.vectors.port import VectorStore
from shared.vectors.weaviate import WeaviateStore
from shared.voice import load_voice

RUNS = 3
TOPIC = "Asset-aware scheduling in Airflow"
GHOSTWRITER = str(Path(sys.executable).parent / "ghostwriter")


def measure(action: Callable[[], Any], runs: int = RUNS) -> float:
    """Median seconds of some runs."""
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def ask(*arguments: str) -> Any:
    """What a `ghostwriter … --json` command prints."""
    result = subprocess.run(
        [GHOSTWRITER, *arguments, "--json"], capture_output=True, text=True, timeout=600, check=True
    )
    return json.loads(result.stdout)


def measure_memory(components: list[dict[str, Any]]) -> dict[str, float]:
    """PSS in MB by component, children included."""
    memory = {}
    for component in components:
        if component.get("pid"):
            process = psutil.Process(component["pid"])
            family = [process, *process.children(recursive=True)]
            memory[component["name"]] = sum(member.memory_full_info().pss for member in family) / 1e6
    return memory


def measure_edit(document: Path) -> float:
    """Seconds from saving a file to the answer that cites its new content; the file is restored."""
    before = document.read_bytes()
    marker = f"Build {int(time.time())} of the quillfeather scheduler halves the start time of tasks."
    document.write_bytes(before + f"\n\n## Quillfeather\n\n{marker}\n".encode())
    started = time.perf_counter()
    try:
        ask("knowledge", "sync")
        post = ask("write", "start time of tasks with the quillfeather scheduler")
        seconds = time.perf_counter() - started
        if not any(source["uri"].endswith(document.name) for source in post["sources"]):
            print(f"  the answer did not cite {document.name}", file=sys.stderr)
        return seconds
    finally:
        document.write_bytes(before)
        ask("knowledge", "sync")


def compare_writing(settings: Settings, store: VectorStore) -> tuple[float, float]:
    """Ratios: our retrieval to a bare hybrid query, our write to a bare chat completion with the same prompt."""
    llm = OpenAiLlm(settings.llm_base_url, settings.secrets.llm_api_key.get_secret_value())
    voice = load_voice(settings.content_dir / "voice.toml")
    retrieval = load_retrieval_settings(settings.content_dir / "retrieval.toml")
    sessions = create_sessions(settings.ledger_dsn)
    (vector,) = llm.embed(settings.embedding_model, [TOPIC])

    def ours() -> Any:
        return retrieve(
            TOPIC,
            llm=llm,
            embedding_model=settings.embedding_model,
            store=store,
            sessions=sessions,
            settings=retrieval,
            top_k=voice.retrieval.top_k,
        ).passages

    bare_search = measure(lambda: store.search(TOPIC, vector, voice.retrieval.top_k), 10)
    search = measure(ours, 10)
    decoding = choose_decoding(voice)
    messages = build_messages(voice, TOPIC, [hit.chunk for hit in ours()])
    bare_write = measure(
        lambda: llm.client.chat.completions.create(
            model=settings.chat_model,
            messages=messages,  # type: ignore[arg-type]
            max_completion_tokens=decoding.max_tokens,
            temperature=decoding.temperature,
            frequency_penalty=decoding.frequency_penalty,
        )
    )
    write = measure(lambda: ask("write", TOPIC, "--model", "base"))
    return search / bare_search, write / bare_write


def main() -> None:
    """Print all figures of the stack that STATE_DIR and PORT_OFFSET name."""
    settings = load_settings(os.environ)
    memory = measure_memory(ask("stack", "info"))
    print("Memory (PSS, MB)")
    for name, megabytes in sorted(memory.items(), key=lambda item: -item[1]):
        print(f"  {name:24} {megabytes:8.0f}")
    print(f"  {'all':24} {sum(memory.values()):8.0f}")
    document = next(iter(sorted((settings.content_dir / "knowledge").rglob("*.md"))))
    edits = [measure_edit(document) for _ in range(RUNS)]
    print(
        f"Edit of a file to an answer that cites it: {statistics.median(edits):.1f} s {[round(s, 1) for s in edits]}"
    )
    store = WeaviateStore(
        settings.weaviate_host,
        settings.weaviate_port,
        settings.weaviate_grpc_port,
        settings.secrets.weaviate_reader_key.get_secret_value(),
    )
    search, write = compare_writing(settings, store)
    store.close()
    print(f"Retrieval / bare hybrid query: {search:.2f}x     write / bare chat completion: {write:.2f}x")


if __name__ == "__main__":
    main()
