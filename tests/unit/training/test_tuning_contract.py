"""The contract of the fine-tuning API, on the fake and on the OpenAI adapter over a scripted server."""

import asyncio
import json
import re
from dataclasses import replace
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import httpx2 as httpx  # the client that the openai package stands on
import pytest

from deployments.training.proposals import Order
from deployments.training.tuning.fake import FakeTuning
from deployments.training.tuning.openai import OpenAiTuning
from deployments.training.tuning.port import TuningApi, TuningError, TuningUnavailableError, UnknownJobError

ORDER = Order("set-1", "base", 3, 1.5, "notes")


class Server:
    """OpenAI's routes over a FakeTuning: `answer` takes a request and gives the response."""

    def __init__(self, fake: FakeTuning) -> None:
        self.fake = fake
        self.created: list[dict[str, Any]] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.fake.down:
            return httpx.Response(503, json={"error": {"message": "down"}})
        path = request.url.path.removeprefix("/v1")
        try:
            if path == "/files" and request.method == "POST":
                return httpx.Response(200, json=self._describe_file(self._store(request)))
            if path == "/files":
                return httpx.Response(
                    200, json=self._list([self._describe_file(key) for key in self.fake.files])
                )
            if match := re.fullmatch(r"/files/(.+)/content", path):
                return httpx.Response(200, content=self.fake.files[match[1]][1])
            if path == "/fine_tuning/jobs" and request.method == "POST":
                return httpx.Response(200, json=self._create(request))
            if path == "/fine_tuning/jobs":
                jobs = [self._describe_job(key) for key in reversed(self.fake.jobs)]
                return httpx.Response(200, json=self._list(jobs))
            if match := re.fullmatch(r"/models/(.+)", path):
                limit = {} if self.fake.limit is None else {"max_model_len": self.fake.limit}
                model = {"id": match[1], "object": "model", "created": 1, "owned_by": "o"}
                return httpx.Response(200, json=model | limit)
            if path == "/tokenize":
                return httpx.Response(200, json=self._count(json.loads(request.content)))
            job_id, _, action = path.removeprefix("/fine_tuning/jobs/").partition("/")
            job = self.fake.retrieve_job(job_id)
            if action == "cancel":
                if job.finished:
                    return httpx.Response(400, json={"error": {"message": "already ended"}})
                self.fake.cancel_job(job_id)
            return httpx.Response(200, json=self._describe_job(job_id))
        except TuningError as error:
            return httpx.Response(404, json={"error": {"message": str(error)}})

    def _store(self, request: httpx.Request) -> str:
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        parts = BytesParser().parsebytes(head + request.read()).get_payload()
        (file,) = [part for part in parts if isinstance(part, Message) and part.get_filename()]
        return self.fake._store(str(file.get_filename()), file.get_payload(decode=True))  # type: ignore[arg-type]

    def _create(self, request: httpx.Request) -> dict[str, Any]:
        body = json.loads(request.content)
        self.created.append(body)
        hyperparameters = body["method"]["supervised"]["hyperparameters"]
        epochs, rate = hyperparameters["n_epochs"], hyperparameters.get("learning_rate_multiplier", 1.0)
        order = Order(
            body["metadata"]["ghostwriter_training_set"], body["model"], epochs, rate, body["suffix"]
        )
        files = body["training_file"], body["validation_file"]
        return self._describe_job(self.fake.create_job(order, *files, request.headers["Idempotency-Key"]).id)

    def _count(self, body: dict[str, Any]) -> dict[str, Any]:
        messages = body["messages"]
        assert body["add_generation_prompt"] == (messages[-1]["role"] != "assistant")
        lengths = self.fake.measure(body["model"], [messages])
        assert lengths is not None
        return {"count": lengths.tokens[0], "max_model_len": lengths.limit, "tokens": []}

    def _describe_file(self, file_id: str) -> dict[str, Any]:
        name, content = self.fake.files[file_id]
        described = {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": 1,
            "filename": name,
        }
        return {**described, "purpose": "fine-tune", "status": "processed"}

    def _describe_job(self, job_id: str) -> dict[str, Any]:
        job = self.fake.jobs[job_id]
        error = {"code": "failed", "message": job.error, "param": None} if job.error else None
        names = ("id", "status", "model", "created_at", "fine_tuned_model", "finished_at", "trained_tokens")
        described = {name: getattr(job, name) for name in names}
        described.update(result_files=list(job.result_files), error=error, metadata=dict(job.metadata))
        return {
            **described,
            "object": "fine_tuning.job",
            "training_file": "f",
            "organization_id": "o",
            "seed": 1,
        }

    @staticmethod
    def _list(data: list[dict[str, Any]]) -> dict[str, Any]:
        return {"object": "list", "data": data, "has_more": False}


@pytest.fixture
def fake() -> FakeTuning:
    return FakeTuning()


@pytest.fixture
def server(fake: FakeTuning) -> Server:
    return Server(fake)


@pytest.fixture(params=["fake", "openai"])
def tuning(request: pytest.FixtureRequest, fake: FakeTuning, server: Server) -> TuningApi:
    if request.param == "fake":
        return fake
    transport = httpx.MockTransport(server.answer)
    return OpenAiTuning("http://provider/v1", "key", max_retries=0, transport=transport)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text('{"messages": []}\n', encoding="utf-8")
    return path


def test_a_file_is_uploaded_once(tuning: TuningApi, file: Path) -> None:
    first = tuning.upload_file(file, "a.jsonl")
    assert tuning.upload_file(file, "a.jsonl") == first
    assert tuning.upload_file(file, "b.jsonl") != first
    assert tuning.download_file(first) == file.read_bytes()


def test_a_job_is_found_again_until_it_came_to_nothing(
    tuning: TuningApi, fake: FakeTuning, file: Path
) -> None:
    assert tuning.find_job(ORDER) is None
    file_id = tuning.upload_file(file, "a.jsonl")
    job = tuning.create_job(ORDER, file_id, file_id, "key")
    assert (job.status, job.finished, job.metadata) == ("running", False, ORDER.metadata)
    found = tuning.find_job(ORDER)
    assert found is not None
    assert found.id == job.id
    assert tuning.find_job(Order("set-2", "base", 3, 1.5, "notes")) is None
    assert tuning.find_job(Order("set-1", "base", 4, 1.5, "notes")) is None
    fake.finish(job.id, "failed")
    assert tuning.find_job(ORDER) is None
    assert tuning.find_job(ORDER, since=job.created_at + 1) is None
    found = tuning.find_job(ORDER, since=job.created_at)
    assert found is not None and (found.id, found.status) == (job.id, "failed")
    assert tuning.find_job(Order("set-2", "base", 3, 1.5, "notes"), since=0) is None
    newer = tuning.create_job(ORDER, file_id, file_id, "another")
    found = tuning.find_job(ORDER, since=job.created_at)
    assert found is not None and found.id == newer.id
    assert tuning.retrieve_job(job.id).error == "it broke"


def test_a_creation_that_is_repeated_makes_one_job(tuning: TuningApi, fake: FakeTuning, file: Path) -> None:
    file_id = tuning.upload_file(file, "a.jsonl")
    job = tuning.create_job(ORDER, file_id, file_id, "key")
    assert tuning.create_job(ORDER, file_id, file_id, "key").id == job.id
    fake.finish(job.id, "failed")
    assert tuning.create_job(ORDER, file_id, file_id, "key").status == "failed"
    assert tuning.create_job(ORDER, file_id, file_id, "another").id != job.id
    assert len(fake.jobs) == 2


@pytest.mark.parametrize("status", ["validating_files", "queued", "paused"])
def test_a_job_that_waits_or_is_paused_has_not_ended(
    tuning: TuningApi, fake: FakeTuning, file: Path, status: str
) -> None:
    uploaded = tuning.upload_file(file, "train.jsonl")
    job = tuning.create_job(ORDER, uploaded, uploaded, "key")
    fake.change(job.id, status)
    seen = asyncio.run(tuning.watch_job(job.id))
    assert (seen.status, seen.finished, seen.fruitless) == (status, False, False)
    assert tuning.find_job(ORDER) == tuning.retrieve_job(job.id) == seen


def test_a_success_without_a_model_is_not_found_again(
    tuning: TuningApi, fake: FakeTuning, file: Path
) -> None:
    file_id = tuning.upload_file(file, "a.jsonl")
    job = tuning.create_job(ORDER, file_id, file_id, "key")
    fake.finish(job.id)
    found = tuning.find_job(ORDER)
    assert found is not None and not found.fruitless
    fake.jobs[job.id] = replace(fake.jobs[job.id], fine_tuned_model=None)
    assert tuning.retrieve_job(job.id).fruitless
    assert tuning.find_job(ORDER) is None


def test_lengths_are_those_of_the_model_where_the_provider_tells_them(
    tuning: TuningApi, fake: FakeTuning
) -> None:
    prompt = [{"role": "user", "content": "one two"}]
    conversations: Any = [prompt, [*prompt, {"role": "assistant", "content": "three"}]]
    assert tuning.measure("base", conversations) is None
    fake.limit = 9
    lengths = tuning.measure("base", conversations)
    assert lengths is not None
    assert (lengths.tokens, lengths.limit) == ((2, 3), 9)


def test_a_finished_job_names_model_and_results(tuning: TuningApi, fake: FakeTuning, file: Path) -> None:
    file_id = tuning.upload_file(file, "a.jsonl")
    job = tuning.create_job(ORDER, file_id, file_id, "key")
    fake.finish(job.id)
    for finished in (tuning.retrieve_job(job.id), asyncio.run(tuning.watch_job(job.id))):
        assert (finished.status, finished.finished, finished.trained_tokens) == ("succeeded", True, 1000)
        assert finished.fine_tuned_model == f"ft:base:{job.id}"
        assert tuning.download_file(finished.result_files[0]).startswith(b"step,")


def test_cancelling_ends_a_job_and_may_come_late(tuning: TuningApi, file: Path) -> None:
    file_id = tuning.upload_file(file, "a.jsonl")
    job = tuning.create_job(ORDER, file_id, file_id, "key")
    for _ in range(2):
        tuning.cancel_job(job.id)
    assert tuning.retrieve_job(job.id).status == "cancelled"


def test_what_is_unknown_is_refused(tuning: TuningApi) -> None:
    with pytest.raises(UnknownJobError):
        tuning.retrieve_job("ftjob-99")
    with pytest.raises(TuningError):
        tuning.create_job(ORDER, "file-99", "file-99", "key")


def test_a_provider_in_trouble_is_told_apart(tuning: TuningApi, fake: FakeTuning) -> None:
    fake.down = True
    with pytest.raises(TuningUnavailableError):
        tuning.find_job(ORDER)
    with pytest.raises(TuningUnavailableError):
        asyncio.run(tuning.watch_job("ftjob-1"))


def test_the_settings_sent_are_those_ordered(fake: FakeTuning, server: Server, file: Path) -> None:
    tuning = OpenAiTuning("http://provider/v1", "key", transport=httpx.MockTransport(server.answer))
    file_id = tuning.upload_file(file, "a.jsonl")
    tuning.create_job(ORDER, file_id, file_id, "key")
    (body,) = server.created
    assert body["method"]["supervised"]["hyperparameters"] == {"n_epochs": 3, "learning_rate_multiplier": 1.5}
    assert (body["model"], body["suffix"], body["metadata"]) == ("base", "notes", ORDER.metadata)


@pytest.mark.parametrize("odd", [{"html": "<html>"}, {"json": [1, 2]}, {"json": {"tokens": [1]}}])
def test_a_server_with_another_way_to_tokenize_tells_no_lengths(
    fake: FakeTuning, server: Server, odd: dict[str, Any]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, **odd) if request.url.path == "/tokenize" else server.answer(request)

    fake.limit = 10
    tuning = OpenAiTuning("http://provider/v1", "key", transport=httpx.MockTransport(answer))
    assert tuning.measure("base", [[{"role": "user", "content": "one two"}]]) is None
