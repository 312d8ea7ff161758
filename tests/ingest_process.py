"""`python -m tests.ingest_process CONFIG`: runs of ingest in processes of their own, which die where they are told to.

Each line of standard input is `{"run": …, "at": n, "kill": [[pid, since], …], "itself": true}`: a process is forked
that does the run and, at the n-th step into our own code (0: never), kills those processes, which must have begun at
those times, and, unless told not to, itself, with SIGKILL. Each line of standard output says how it ended:
`{"signal": …, "steps": …, "error": …}`.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from deployments.ingest.composition import Ingest
from deployments.ingest.handover import Handover
from shared.ledger.sessions import create_sessions
from shared.llm.openai import OpenAiLlm
from shared.vectors.weaviate import WeaviateStore
from tests.ingest import FORMATS, MODEL, Run, Shelf, Training

ROOT = str(Path(__file__).parents[1])
OURS = (f"{ROOT}/deployments/ingest/", f"{ROOT}/shared/vectors/", f"{ROOT}/shared/llm/")


class Reaper:
    """Counts steps into our code and out of it, and from it into others'; kills at one of them."""

    def __init__(self, at: int, others: list[tuple[int, float]], *, itself: bool) -> None:
        self.count, self.at, self.others, self.itself = 0, at, others, itself

    def __call__(self, frame: FrameType, what: str, value: Any) -> None:
        if frame.f_code.co_filename.startswith(OURS):
            self.count += 1
            if self.count == self.at:
                for pid, since in self.others:
                    with suppress(psutil.NoSuchProcess):
                        process = psutil.Process(pid)
                        if process.create_time() == since:  # a number may be another's by now
                            process.kill()
                if self.itself:
                    os.kill(os.getpid(), signal.SIGKILL)


def build(config: dict[str, Any]) -> Ingest:
    shelf = Shelf.load(Path(config["shelf"]))
    return Ingest(
        sessions=create_sessions(config["ledger"]),
        store=WeaviateStore("127.0.0.1", config["port"], config["grpc_port"], config["key"], timeout=10),
        llm=OpenAiLlm(config["llm"], "no key", timeout=20, max_retries=1),
        embedding_model=MODEL,
        handover=Handover(config["handover"]),
        formats=FORMATS,
        list_sources=shelf.list_sources,
        connect=shelf.connect,
        training=Training(),
    )


def work(config: dict[str, Any], order: dict[str, Any]) -> dict[str, Any]:
    """One run; what is to be told of it."""
    others = [(pid, since) for pid, since in order.get("kill", [])]
    reaper = Reaper(order["at"], others, itself=order.get("itself", True))
    ingest = build(config)
    sys.setprofile(reaper)
    try:
        Run(ingest, order["run"]).go()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "steps": reaper.count}
    finally:
        sys.setprofile(None)
        ingest.store.close()
    return {"steps": reaper.count}


def main() -> None:
    config = json.loads(sys.argv[1])
    for line in sys.stdin:
        order = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            os.write(writer, json.dumps(work(config, order)).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as told:
            said = told.read()
        status = os.waitpid(child, 0)[1]
        answer = {"signal": os.WTERMSIG(status), **(json.loads(said) if said else {})}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
