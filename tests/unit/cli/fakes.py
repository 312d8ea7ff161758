"""A whole system for the command line, in memory."""

import json
from pathlib import Path
from typing import Any

import httpx

from cli.connection import Connection
from cli.serving import ServingClient
from shared import contracts
from shared.registry.fake import FakeRegistry
from shared.settings import Settings

POST_ID = "post-1"
POST = {
    "post_id": POST_ID,
    "text": "Field note: [bold] brackets survive.",
    "model": {"name": "ghostwriter", "version": "2", "alias": "champion"},
    "prompt_version": "abc",
    "sources": [
        {"uri": "knowledge://guides/assets.md", "title": "Assets", "chunk_id": "c1", "score": 0.5, "rank": 1}
    ],
    "seconds": 1.25,
}
CHAIN = {
    "post_id": POST_ID,
    "topic": "Assets",
    "model": {
        "name": "ghostwriter",
        "version": "2",
        "alias": "champion",
        "training_set": "t" * 64,
        "job_id": "ftjob-1",
        "run_id": "run-1",
        "examples": [{"path": "train/a.md", "split": "train"}],
    },
    "sources": [
        {
            "uri": "knowledge://guides/assets.md",
            "title": "Assets",
            "content_hash": "h" * 64,
            "ingest_run": "asset_triggered__1",
        }
    ],
    "notes": ["a note"],
}


class FakeAirflow:
    """Runs that end well at once; an event or a trigger makes one of each Dag in `wakes`."""

    def __init__(self, wakes: tuple[str, ...] = (), end_state: str = "success") -> None:
        self.wakes, self.end_state = wakes, end_state
        self.runs: dict[str, list[dict[str, Any]]] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.blocker = ""
        self.end, self.reason = "hand_over", ""  # how prepare_examples ends, and why
        self.results: dict[str, Any] = {}

    def add_run(self, dag_id: str, state: str) -> None:
        number = sum(len(runs) for runs in self.runs.values())
        self.runs.setdefault(dag_id, []).append(
            {
                "dag_id": dag_id,
                "dag_run_id": f"run-{number}",
                "state": state,
                "start_date": f"2026-11-23T00:00:{number:02}Z",
                "end_date": f"2026-11-23T00:01:{number:02}Z" if state in ("success", "failed") else None,
            }
        )

    def list_dag_runs(self, dag_id: str, limit: int = 100) -> list[dict[str, Any]]:
        return list(reversed(self.runs.get(dag_id, [])))[:limit]

    def list_task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        if self.blocker and dag_id == contracts.FINE_TUNE_DAG:
            return [
                {"task_id": "fine_tune", "state": "skipped"},
                {"task_id": self.blocker, "state": "success"},
            ]
        if dag_id == contracts.PREPARE_DAG:
            return [{"task_id": task_id, "state": "success"} for task_id in ("prepare", self.end)]
        return [{"task_id": "prepare", "state": "success"}, {"task_id": "fine_tune", "state": "deferred"}]

    def read_xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        return self.reason if key == "reason" else self.results[task_id]

    def list_log_errors(self, dag_id: str, run_id: str, task_id: str) -> list[str]:
        return [f"{task_id}: train/a.md:1: no front matter", f"{task_id}: train/b.md: it is binary"]

    def explain_failure(self, dag_id: str, run_id: str) -> str:
        return "prepare: the disk is full"

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        self.calls.append(("trigger", dag_id, *([conf] if conf else [])))
        self.add_run(dag_id, self.end_state)
        if dag_id == contracts.START_TRAINING_DAG:  # its outlet is the examples' event
            self._wake()
        return str(self.runs[dag_id][-1]["dag_run_id"])

    def withdraw(self, dag_id: str, run_id: str) -> None:
        self.calls.append(("withdraw", dag_id, run_id))
        for run in self.runs.get(dag_id, []):
            if run["dag_run_id"] == run_id and run["state"] == "queued":
                run["state"] = "failed"

    def post_asset_event(self, asset_uri: str, extra: dict[str, Any]) -> None:
        self.calls.append(("event", asset_uri, extra))
        self._wake()

    def _wake(self) -> None:
        for dag_id in self.wakes:
            self.add_run(dag_id, self.end_state)

    def unpause(self, dag_id: str) -> None:
        self.calls.append(("unpause", dag_id))

    def pause(self, dag_id: str) -> None:
        self.calls.append(("pause", dag_id))


class FakeServing:
    """The HTTP API's answers; a sync takes in what `files` holds by then."""

    def __init__(self, ingest: FakeAirflow) -> None:
        self.ingest = ingest
        self.documents = {"guides": 12}
        self.stored = dict(self.documents)
        self.requests: list[tuple[str, str, Any]] = []
        self.answers: dict[tuple[str, str], httpx.Response] = {}
        self.cited_hash = "h" * 64
        self.problems: list[dict[str, str]] = []
        self.removals: list[dict[str, str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        key = (request.method, request.url.path)
        self.requests.append((*key, body))
        if key in self.answers:
            return self.answers[key]
        if key == ("POST", "/api/posts"):
            return httpx.Response(200, json=POST)
        if key == ("GET", f"/api/posts/{POST_ID}/audit"):
            return httpx.Response(200, json=CHAIN)
        if key == ("GET", "/api/knowledge"):
            return httpx.Response(200, json=self.describe_knowledge())
        if key == ("POST", "/api/knowledge/sync"):
            self.stored = dict(self.documents)
            digests = (body or {}).get("accept_removals", [])
            self.removals = [removal for removal in self.removals if removal["digest"] not in digests]
            for dag_id in self.ingest.wakes:
                self.ingest.trigger(dag_id)
            runs = self.ingest.list_dag_runs(contracts.INGEST_DAG)
            run = runs[0]["dag_run_id"] if runs else "never begun"
            return httpx.Response(202, json={"run": run})
        return httpx.Response(404, json={"error": {"message": "There is no such page."}})

    def describe_knowledge(self) -> dict[str, Any]:
        return {
            "documents": sum(self.stored.values()),
            "chunks": 3 * sum(self.stored.values()),
            "version": 1,
            "digest": repr(self.stored),
            "last_change": {"run": "run-0", "at": "2026-11-23T00:00:00+00:00"},
            "last_ingest": {"run": "run-1", "state": "success", "at": "2026-11-24T06:00:00+00:00"},
            "notes": [],
            "sources": [
                {
                    "source": name,
                    "documents": count,
                    "chunks": 3 * count,
                    "changed": "2026-11-23T00:00:00+00:00",
                }
                for name, count in self.stored.items()
            ],
            "problems": self.problems
            + [{"uri": removal["uri"], "message": removal["message"]} for removal in self.removals],
            "removals": self.removals,
        }


class FakeSystem:
    """A connection with handles on what is behind it."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(state_dir=folder / "state", content_dir=folder / "content")
        self.ingest = FakeAirflow(wakes=(contracts.INGEST_DAG,))
        self.training = FakeAirflow(wakes=(contracts.PREPARE_DAG,))
        self.serving = FakeServing(self.ingest)
        self.registry = FakeRegistry()
        self.jobs: list[dict[str, Any]] = []
        self.connection = Connection(
            settings=self.settings,
            serving=ServingClient(
                "http://serving", "admin", "secret", timeout=5, transport=httpx.MockTransport(self.serving)
            ),
            ingest=self.ingest,
            training=self.training,
            registry=self.registry,
            list_jobs=lambda: self.jobs,
        )

    def crown(self) -> None:
        version = self.registry.register(
            model_id="ft:1", run_id="run-1", training_set="t" * 64, job_id="ftjob-1"
        )
        self.registry.set_scores(version.version, {"score": 0.75})
        self.registry.set_alias(contracts.CHAMPION_ALIAS, version.version)
