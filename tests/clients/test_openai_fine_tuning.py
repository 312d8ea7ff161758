"""OpenAI's SDK: fine-tuning jobs, from their files to the answers of what was tuned."""

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from shared.contracts import LOCAL_CHAT_MODEL as MODEL

SECONDS = 250
ENDED = ("succeeded", "failed", "cancelled")


def example(number: int) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": f"What is {number} and one?"},
            {"role": "assistant", "content": f"It is {number + 1}."},
        ]
    }


def preference(number: int) -> dict[str, Any]:
    return {
        "input": {"messages": [{"role": "user", "content": f"What is {number} and one?"}]},
        "preferred_output": [{"role": "assistant", "content": f"It is {number + 1}."}],
        "non_preferred_output": [{"role": "assistant", "content": "I would rather not say."}],
    }


def lines(make: Callable[[int], dict[str, Any]], count: int = 10) -> bytes:
    return b"".join(json.dumps(make(number)).encode() + b"\n" for number in range(count))


def wait_for(client: openai.OpenAI, job_id: str, *statuses: str, seconds: float = SECONDS) -> Any:
    end = time.monotonic() + seconds
    while (job := client.fine_tuning.jobs.retrieve(job_id)).status not in statuses:
        assert job.status not in ENDED and time.monotonic() < end, job
        time.sleep(0.2)
    return job


@pytest.fixture
def started(client: openai.OpenAI) -> Iterator[list[str]]:
    """Jobs to cancel where a test leaves them."""
    jobs: list[str] = []
    yield jobs
    for job in jobs:
        if client.fine_tuning.jobs.retrieve(job).status not in ENDED:
            client.fine_tuning.jobs.cancel(job)


def create(client: openai.OpenAI, started: list[str], **asked: Any) -> Any:
    job = client.fine_tuning.jobs.create(model=MODEL, **asked)
    started.append(job.id)
    return job


@pytest.mark.training
def test_a_model_is_tuned_answers_and_is_deleted(
    client: openai.OpenAI, upload: Callable[..., str], started: list[str]
) -> None:
    job = create(
        client,
        started,
        training_file=upload(lines(example)),
        validation_file=upload(lines(example, 2)),
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 5}}},
        suffix="sums",
        seed=5,
        metadata={"purpose": "a test"},
    )
    assert job.object == "fine_tuning.job" and job.seed == 5 and job.metadata == {"purpose": "a test"}
    assert job.status in ("validating_files", "queued", "running") and job.fine_tuned_model is None
    job = wait_for(client, job.id, "succeeded")
    assert job.fine_tuned_model.startswith(f"ft:{MODEL}:") and "sums" in job.fine_tuned_model
    assert job.trained_tokens > 0 and job.finished_at >= job.created_at and job.error is None
    assert job.method.type == "supervised" and job.hyperparameters.n_epochs == 1

    # It answers at once, and is listed; what ran before goes on.
    ask: list[Any] = [{"role": "user", "content": "What is 3 and one?"}]
    answer = client.chat.completions.create(
        model=job.fine_tuned_model, messages=ask, max_tokens=8, temperature=0
    )
    assert answer.model == job.fine_tuned_model and answer.choices[0].message.content
    assert job.fine_tuned_model in {model.id for model in client.models.list()}
    assert client.models.retrieve(job.fine_tuned_model).created >= job.created_at

    # Events tell a curve, newest first; a page at a time gives the same.
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=100))
    by_pages = list(client.fine_tuning.jobs.list_events(job.id, limit=2))
    assert [event.id for event in by_pages] == [event.id for event in events]
    assert [event.created_at for event in events] == sorted((e.created_at for e in events), reverse=True)
    metrics = [event.data for event in events if event.type == "metrics"]
    assert metrics and all(isinstance(data, dict) and data["train_loss"] > 0 for data in metrics)

    # The result files are the curve and the adapter; the checkpoints are models.
    curve, adapter = (client.files.retrieve(file) for file in job.result_files)
    assert curve.purpose == adapter.purpose == "fine-tune-results"
    assert client.files.content(curve.id).read().startswith(b"step,")
    with zipfile.ZipFile(io.BytesIO(client.files.content(adapter.id).read())) as folder:
        assert sorted(folder.namelist()) == ["adapter_config.json", "adapter_model.safetensors"]
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id))
    for checkpoint in checkpoints:
        assert checkpoint.fine_tuning_job_id == job.id and checkpoint.step_number > 0
        assert checkpoint.fine_tuned_model_checkpoint.startswith("ft:")

    deleted = client.models.delete(job.fine_tuned_model)
    assert deleted.deleted and deleted.id == job.fine_tuned_model
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=job.fine_tuned_model, messages=ask, max_tokens=2)


@pytest.mark.training
def test_preferences_are_learnt_and_a_job_pauses_and_goes_on(
    client: openai.OpenAI, upload: Callable[..., str], started: list[str]
) -> None:
    settings = {"n_epochs": 1, "batch_size": 5, "beta": 0.2}
    job = create(
        client,
        started,
        training_file=upload(lines(preference)),
        method={"type": "dpo", "dpo": {"hyperparameters": settings}},
    )
    assert job.method.type == "dpo" and job.method.dpo.hyperparameters.beta == 0.2
    wait_for(client, job.id, "queued", "running", "succeeded")
    if client.fine_tuning.jobs.retrieve(job.id).status != "succeeded":
        paused = client.fine_tuning.jobs.pause(job.id)
        assert paused.status == "paused"
        resumed = client.fine_tuning.jobs.resume(job.id)
        assert resumed.status in ("validating_files", "queued", "running")
    job = wait_for(client, job.id, "succeeded")
    assert job.fine_tuned_model
    client.models.delete(job.fine_tuned_model)


def test_a_job_that_is_cancelled_stays_so(
    client: openai.OpenAI, upload: Callable[..., str], started: list[str]
) -> None:
    job = create(client, started, training_file=upload(lines(example)))
    asked = time.monotonic()
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    assert time.monotonic() - asked < 20
    assert client.fine_tuning.jobs.retrieve(job.id).status == "cancelled"
    for act in (
        client.fine_tuning.jobs.cancel,
        client.fine_tuning.jobs.pause,
        client.fine_tuning.jobs.resume,
    ):
        with pytest.raises(openai.BadRequestError):
            act(job.id)


def test_a_paused_job_waits(client: openai.OpenAI, upload: Callable[..., str], started: list[str]) -> None:
    job = create(client, started, training_file=upload(lines(example)))
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    with pytest.raises(openai.BadRequestError):
        client.fine_tuning.jobs.resume(create(client, started, training_file=upload(lines(example))).id)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "paused"
    assert client.fine_tuning.jobs.resume(job.id).status in ("validating_files", "queued", "running")


def test_jobs_are_listed_a_page_at_a_time(
    client: openai.OpenAI, upload: Callable[..., str], started: list[str]
) -> None:
    file = upload(lines(example))
    mine = []
    for number in range(3):
        job = create(client, started, training_file=file, metadata={"list": "mine", "number": str(number)})
        client.fine_tuning.jobs.cancel(job.id)
        mine.append(job.id)
    page = client.fine_tuning.jobs.list(limit=2)
    assert len(page.data) == 2 and page.has_next_page()
    found = [job.id for job in client.fine_tuning.jobs.list(limit=2)]
    assert len(found) == len(set(found)) and set(mine) <= set(found)
    query = {"metadata[number]": "1", "metadata[list]": "mine"}
    assert mine[1] in [job.id for job in client.fine_tuning.jobs.list(extra_query=query)]


def test_the_same_key_makes_one_job(
    client: openai.OpenAI, upload: Callable[..., str], started: list[str]
) -> None:
    file = upload(lines(example))
    headers = {"Idempotency-Key": f"key-{time.time_ns()}"}
    first = create(client, started, training_file=file, extra_headers=headers)
    client.fine_tuning.jobs.cancel(first.id)
    again = client.fine_tuning.jobs.create(model=MODEL, training_file=file, extra_headers=headers)
    assert again.id == first.id
    with pytest.raises(openai.APIStatusError) as caught:
        client.fine_tuning.jobs.create(model=MODEL, training_file=file, suffix="other", extra_headers=headers)
    assert 400 <= caught.value.status_code < 500


def test_a_job_that_is_not_there(client: openai.OpenAI) -> None:
    jobs = client.fine_tuning.jobs
    for act in (jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume, jobs.list_events, jobs.checkpoints.list):
        with pytest.raises(openai.NotFoundError):
            act("ftjob-00000000")


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("training_file", "file-none"),
        ("validation_file", "file-none"),
        ("hyperparameters", {"n_epochs": 0}),
        ("hyperparameters", {"learning_rate_multiplier": -1}),
        ("method", {"type": "reinforcement"}),
        ("method", {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": "many"}}}),
        ("suffix", "a" * 65),
        ("seed", -1),
        ("metadata", {"a": 1}),
        ("metadata", {str(number): "a" for number in range(17)}),
        ("integrations", [{"type": "wandb", "wandb": {"project": "a"}}]),
        ("frobnicate", 1),
    ],
)
def test_an_odd_order_is_refused_by_name(
    client: openai.OpenAI, upload: Callable[..., str], param: str, value: object
) -> None:
    asked: dict[str, Any] = {"model": MODEL, "training_file": upload(lines(example)), param: value}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/fine_tuning/jobs", body=asked, cast_to=object)
    assert (caught.value.param or "").startswith(param)
