"""`python -m benchmarks.llm_server [--write]`: figures of the LLM server with its real models, beside the bare library.

It starts a server of its own, with a state folder of its own, and asserts nothing. Run it on a machine that does
nothing else.
"""

import argparse
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from benchmarks.llm_questions import build_post, build_prompts, build_training_set, read_chunks
from benchmarks.llm_rounds import RUNS, Answer, measure, run_rounds
from shared import contracts

PAGE: Final = Path("docs/engines.md")
BEGIN, END = "<!-- benchmarks.llm_server: begin -->", "<!-- benchmarks.llm_server: end -->"
_PYTHON: Final = Path(".venv-llm/bin/python")
_START_SECONDS: Final = 300.0
_TRAINING_SECONDS: Final = 240.0
_CHAT: Final = contracts.LOCAL_CHAT_MODEL
_MEGABYTE: Final = 2**20
_FAILURES: Final = (RuntimeError, OSError, LookupError, httpx.HTTPError, subprocess.SubprocessError)

Row = tuple[str, str, str, str]
"""What was measured, the server's figure, the bare library's, and their ratio."""


class Server:
    """A running LLM server, and a client of it."""

    def __init__(self, process: psutil.Process, client: httpx.Client) -> None:
        self.process, self.client = process, client

    def ask(self, body: Mapping[str, Any]) -> Answer:
        """Asks for an answer as a stream."""
        started, first, usage = time.perf_counter(), 0.0, {}
        with self.client.stream("POST", "/v1/chat/completions", json={"model": _CHAT, **body}) as answer:
            if answer.status_code != 200:
                raise RuntimeError(f"{answer.status_code}: {answer.read().decode()}")
            for line in answer.iter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line.removeprefix("data: "))
                usage.update(event.get("usage") or {})
                if not first and any(choice["delta"].get("content") for choice in event["choices"]):
                    first = time.perf_counter() - started
        seconds = time.perf_counter() - started
        return Answer(seconds, first, usage["prompt_tokens"], usage["completion_tokens"])

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A request whose answer is JSON; raises for an error."""
        answer = self.client.post(path, json=body)
        answer.raise_for_status()
        return dict(answer.json())

    @property
    def memory(self) -> float:
        """Megabytes of the server and its processes, each shared page by its share."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(one.memory_full_info().pss for one in family) / _MEGABYTE


@contextmanager
def run_server() -> Iterator[Server]:
    """A server that has loaded its models, on a port of its own, for as long as the block lasts."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        key = secrets.token_urlsafe(16)
        state = {"GHOSTWRITER_STATE_DIR": folder, "GHOSTWRITER_SECRETS_DIR": folder}
        environment = {
            **os.environ,
            **state,
            "GHOSTWRITER_LLM_PORT": str(port),
            "GHOSTWRITER_LLM_API_KEY": key,
            "GHOSTWRITER_LINEAGE_SPOOL_DIR": f"{folder}/spool",
            "GHOSTWRITER_LOG_LEVEL": "WARNING",
        }
        process = subprocess.Popen([str(_PYTHON), "-m", "deployments.llm"], env=environment)
        headers = {"Authorization": f"Bearer {key}"}
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=600, trust_env=False
            ) as client:
                server = Server(psutil.Process(process.pid), client)
                wait_for(lambda: process.poll() is not None or _is_ready(client), _START_SECONDS)
                if process.poll() is not None:
                    raise RuntimeError(f"the server ended with {process.returncode}")
                yield server
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/ready").status_code == 200
    except httpx.TransportError:
        return False


def wait_for(done: Callable[[], bool], seconds: float) -> None:
    """Waits until it is done; raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s")
        time.sleep(0.25)


@contextmanager
def watch_memory(server: Server) -> Iterator[list[float]]:
    """Megabytes of the server, every second: to look costs the system some time."""
    seen, stop = [server.memory], threading.Event()

    def watch() -> None:
        while not stop.wait(1):
            seen.append(server.memory)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def run_bare(part: str) -> dict[str, float]:
    """What the bare library needs for the same."""
    done = subprocess.run(
        [str(_PYTHON), "-m", "benchmarks.llm_bare", part], capture_output=True, text=True, timeout=900
    )
    if done.returncode != 0:
        raise RuntimeError(f"benchmarks.llm_bare {part}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure_chat(server: Server) -> list[Row]:
    """Posts alone, eight at once, and an exam."""
    with watch_memory(server) as memory:
        ours = run_rounds(server.ask)
    bare = run_bare("chat")
    size = f"{ours['prompt_tokens']:.0f} tokens in, {ours['answer_tokens']:.0f} out"
    gain, bare_gain = (figures["eight_rate"] / figures["alone_rate"] for figures in (ours, bare))
    return [
        _compare(f"post alone ({size}), s", ours["post"], bare["post"], less=True),
        _compare("time to its first text, s", ours["first"], bare["first"], less=True),
        _compare("tokens/s once it writes", ours["stream_rate"], bare["stream_rate"]),
        _compare("eight posts at once, tokens/s", ours["eight_rate"], bare["eight_rate"]),
        ("eight at once against one stream", f"{gain:.1f}x", f"{bare_gain:.1f}x", ""),
        _compare(f"exam of 20 posts ({ours['exam_tokens']:.0f} tokens), s", ours["exam"], bare["exam"], less=True),
        ("memory while it writes, MB", f"{max(memory):.0f}", f"{bare['pss']:.0f}", ""),
    ]  # fmt: skip


def measure_embeddings(server: Server) -> list[Row]:
    """Chunks a second, and the memory that 64 and 2,048 texts take."""
    bare = run_bare("embeddings")
    texts = [chunk.text for chunk in read_chunks()]
    some = texts[:64]
    rows = []
    for model, expected in bare.items():
        body = {"model": model, "input": some, "encoding_format": "base64"}
        rate = len(some) / measure(lambda body=body: server.post("/v1/embeddings", body))
        rows.append(_compare(f"{model}, chunks/s", rate, expected))
    peaks = []
    for count in (64, 2048):
        many = [f"{number} {texts[number % len(texts)]}" for number in range(count)]
        with watch_memory(server) as memory:
            body = {"model": next(iter(bare)), "input": many, "encoding_format": "base64"}
            server.post("/v1/embeddings", body)
        peaks.append(max(memory))
    rows.append(
        ("memory at 64 and at 2,048 texts, MB", " and ".join(f"{peak:.0f}" for peak in peaks), "", "")
    )
    return rows


def measure_rerank(server: Server) -> list[Row]:
    """Pairs a second."""
    [(model, expected)] = run_bare("rerank").items()
    texts = [chunk.text for chunk in read_chunks()][:16]
    body = {"model": model, "query": "How does a deferrable operator wait?", "documents": texts}
    rate = len(texts) / measure(lambda: server.post("/v1/rerank", body))
    return [_compare(f"{model}, pairs/s", rate, expected)]


def measure_beside_training(server: Server) -> list[Row]:
    """A post while a job trains, against one alone."""
    prompts = build_prompts()
    ask = lambda: server.ask(build_post(next(prompts))).seconds  # noqa: E731
    ask()
    alone = statistics.median(ask() for _ in range(RUNS))
    upload = server.client.post(
        "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("train.jsonl", build_training_set())}
    ).raise_for_status()
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 10}}}
    job = server.post(
        "/v1/fine_tuning/jobs", {"model": _CHAT, "training_file": upload.json()["id"], "method": method}
    )
    path = f"/v1/fine_tuning/jobs/{job['id']}"

    def trains() -> bool:
        status = server.client.get(path).json()["status"]
        if status in ("failed", "cancelled", "succeeded"):
            raise RuntimeError(f"the job has {status}: {server.client.get(path).json()['error']}")
        return any("tep" in event["message"] for event in server.client.get(f"{path}/events").json()["data"])

    wait_for(trains, _TRAINING_SECONDS)
    beside = statistics.median(ask() for _ in range(RUNS))
    server.client.post(f"{path}/cancel")
    return [("post beside a training, s", f"{beside:.2f}", f"{alone:.2f} (alone)", f"{beside / alone:.2f}")]


def write_table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    head = ["| | server | bare library | ratio |", "|---|---|---|---|"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def put_table(page: Path, table: str) -> None:
    """Puts the table between the page's marks, or at its end where it has none."""
    text = page.read_text() if page.exists() else "# Engines\n"
    block = f"{BEGIN}\n{table}\n{END}"
    before, begun, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    page.write_text(before + block + after if begun and ended else f"{text.rstrip()}\n\n{block}\n")


def main() -> int:
    """Measures, prints the table, and writes it into the docs where that is asked for."""
    parts = {
        "chat": measure_chat,
        "embeddings": measure_embeddings,
        "rerank": measure_rerank,
        "training": measure_beside_training,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm_server")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE}")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server ends with it
    failed = 0
    with run_server() as server:
        rows: list[Row] = [("memory at rest, all models loaded, MB", f"{server.memory:.0f}", "", "")]
        for part in given.only:
            try:
                rows += parts[part](server)
            except (
                RuntimeError,
                OSError,
                TimeoutError,
                KeyError,
                httpx.HTTPError,
                subprocess.SubprocessError,
            ) as error:
                failed += 1
                print(f"{part}: {type(error).__name__}: {error}", file=sys.stderr)
    table = write_table(rows)
    print(table)
    if given.write and not failed:
        put_table(PAGE, table)
    return 1 if failed else 0


def _compare(name: str, ours: float, bare: float, *, less: bool = False) -> Row:
    """A ratio above one is better than the bare library."""
    ratio = bare / ours if less else ours / bare
    return name, f"{ours:.2f}", f"{bare:.2f}", f"{ratio:.2f}"


if __name__ == "__main__":
    sys.exit(main())
