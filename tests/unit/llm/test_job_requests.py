"""What creates a job, what is refused by name, and lists in pages."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared import contracts
from tests.unit.llm.test_llm_fine_tuning import ENDLESS, GOOD, JOBS, create, stop, wait_for

MODEL = contracts.LOCAL_CHAT_MODEL
PREFERENCE = json.dumps(
    {
        "input": {"messages": [{"role": "user", "content": "a"}]},
        "preferred_output": [{"role": "assistant", "content": "b"}],
        "non_preferred_output": [{"role": "assistant", "content": "c"}],
    }
)


def upload(server, content=GOOD):
    sent = {"file": ("set.jsonl", content.encode())}
    return server.client.post("/v1/files", files=sent, data={"purpose": "fine-tune"}).json()["id"]


def order(server, key=None, **fields):
    body = {"model": MODEL, "training_file": upload(server), **fields}
    return server.client.post(JOBS, json=body, headers={"Idempotency-Key": key} if key else {})


def supervised(**hyperparameters):
    return {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"epochs": 3}, "epochs"),
        ({"hyperparameters": {"epochs": 3}}, "hyperparameters.epochs"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": "three"}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"beta": 0.1}}, "hyperparameters.beta"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, "hyperparameters.learning_rate_multiplier"),
        ({"method": supervised(beta=0.1)}, "method.supervised.hyperparameters.beta"),
        ({"method": supervised(lora_rank=1000)}, "method.supervised.hyperparameters.lora_rank"),
        ({"method": {"type": "reinforcement"}}, "method.type"),
        ({"method": {"type": "dpo", "reinforcement": {}}}, "method.reinforcement"),
        ({"method": {"type": "dpo", "supervised": {}}}, "method.supervised"),
        ({"method": supervised(n_epochs=2), "hyperparameters": {"n_epochs": 3}}, "hyperparameters.n_epochs"),
        ({"method": supervised(seed=2), "seed": 3}, "seed"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"suffix": ""}, "suffix"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"suffix": "!!!"}, "suffix"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"integrations": [{"type": "wandb"}]}, "integrations"),
        ({"hyperparameters": {"early_stopping_patience": 1}}, "validation_file"),
        ({"validation_file": "file-00000000"}, "validation_file"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(server, fields, param):
    answer = order(server, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert server.client.get(JOBS).json()["data"] == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_none_is_refused(server, number):
    body = json.dumps({"model": MODEL, "training_file": upload(server)})
    body = body[:-1] + f', "hyperparameters": {{"learning_rate_multiplier": {number}}}}}'
    answer = server.client.post(JOBS, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


def test_what_is_auto_or_left_out_is_resolved(start):
    server = start(trainer=ENDLESS)
    job = order(server, method=supervised(n_epochs="auto", lora_rank=16), integrations=[], suffix=None).json()
    assert job["hyperparameters"] == job["method"]["supervised"]["hyperparameters"] | {"beta": None}
    assert (job["hyperparameters"]["n_epochs"], job["hyperparameters"]["lora_alpha"]) == (3, 32)
    twice = order(
        server, method=supervised(n_epochs=2, seed=7), hyperparameters={"n_epochs": 2}, seed=7
    ).json()
    assert (twice["hyperparameters"]["n_epochs"], twice["seed"]) == (2, 7)
    assert "server" not in job


def test_a_dpo_job_has_a_beta_and_its_kind_of_file(start):
    server = start(trainer=ENDLESS)
    job = create(server, PREFERENCE, method={"type": "dpo"})
    assert job["method"]["type"] == "dpo"
    assert job["method"]["dpo"]["hyperparameters"]["beta"] == 0.1
    assert wait_for(server, job, "running", "failed")["status"] == "running"


@pytest.mark.parametrize(
    ("content", "method"), [(PREFERENCE, {"type": "supervised"}), (f"\n{GOOD}", {"type": "dpo"})]
)
def test_a_file_for_another_method_fails_the_job_before_it_trains(start, content, method):
    server = start()
    failed = wait_for(server, create(server, content, method=method), "failed", "succeeded")
    assert (failed["error"]["code"], failed["error"]["param"]) == ("invalid_training_file", "training_file")
    assert f"the job's method is {method['type']}" in failed["error"]["message"]
    assert stop(server).lineage == []


@pytest.mark.parametrize("param", ["training_file", "validation_file"])
def test_an_example_longer_than_the_context_is_named_before_it_trains(start, param):
    server = start()
    messages = [{"role": "user", "content": "word " * 199}, {"role": "assistant", "content": "two words"}]
    long = upload(server, f"{GOOD}\r\n{json.dumps({'messages': messages})}")
    failed = wait_for(server, order(server, **{param: long}).json(), "failed", "succeeded")
    assert (failed["error"]["code"], failed["error"]["param"]) == (f"invalid_{param}", param)
    assert "Line 2: the example has 201 tokens, and the model's context is 200" in failed["error"]["message"]
    assert stop(server).lineage == []


def test_only_the_base_model_can_be_tuned(server):
    done = wait_for(server, create(server), "succeeded")
    answer = order(server, model=done["fine_tuned_model"])
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    assert "only the base model" in answer.json()["error"]["message"]


def test_a_file_of_another_purpose_is_refused(server):
    sent = {"file": ("set.jsonl", GOOD.encode())}
    file = server.client.post("/v1/files", files=sent, data={"purpose": "user_data"}).json()
    answer = order(server, training_file=file["id"])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_file_purpose")


def test_a_repeated_creation_makes_one_job_also_after_a_restart(start):
    server = start(trainer=ENDLESS)
    file = upload(server)
    job = order(server, "key-1", training_file=file).json()
    assert order(server, "key-1", training_file=file).json()["id"] == job["id"]
    assert server.client.delete(f"/v1/files/{file}").json()["deleted"]
    again = start(trainer=ENDLESS) if stop(server) else None
    repeated = order(again, "key-1", training_file=file).json()
    assert (repeated["id"], repeated["seed"]) == (job["id"], job["seed"])
    other = order(again, "key-1", training_file=file, suffix="other")
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_key_reused")
    assert order(again, "key-2").json()["id"] != job["id"]
    assert len(again.client.get(JOBS).json()["data"]) == 2


def test_a_creation_repeated_at_once_makes_one_job(start):
    server = start(trainer=ENDLESS)
    file = upload(server)
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda _: order(server, "key", training_file=file).json()["id"], range(16))
        assert len(set(answers)) == 1
    assert len(server.client.get(JOBS).json()["data"]) == 1


def test_a_key_that_a_damaged_job_may_have_buys_no_other(start):
    server = start()
    job = wait_for(server, order(server, "key").json(), "succeeded")
    (stop(server).jobs.job_dir(job["id"]) / "job.json").write_bytes(b"{")
    again = start()
    assert order(again, "key").json()["error"]["code"] == "unreadable_record"
    assert order(again).status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_an_odd_key_is_refused(server, key):
    headers = {"Idempotency-Key": key}
    body = {"model": MODEL, "training_file": upload(server)}
    assert server.client.post(JOBS, json=body, headers=headers).status_code == 400


def test_lists_come_in_pages(start):
    server = start(trainer=ENDLESS)
    ids = [order(server, metadata={"n": "x"} if number else {}).json()["id"] for number in range(3)]

    def walk(path, **params):
        found, after = [], None
        while True:
            query = {"limit": 1, **params, **({"after": after} if after else {})}
            page = server.client.get(path, params=query).json()
            found += [item["id"] for item in page["data"]]
            if not page["has_more"]:
                return found
            assert page["last_id"] == found[-1]
            after = page["last_id"]

    assert walk(JOBS) == ids[::-1]
    assert walk(JOBS, **{"metadata[n]": "x"}) == ids[:0:-1]
    assert walk(JOBS, metadata="null") == ids[:1]
    events = server.client.get(f"{JOBS}/{ids[0]}/events").json()["data"]
    assert len(events) > 1
    assert walk(f"{JOBS}/{ids[0]}/events") == [event["id"] for event in events]
    files = [file["id"] for file in server.client.get("/v1/files").json()["data"]]
    assert walk("/v1/files", order="asc") == files[::-1]


@pytest.mark.parametrize(
    "query", [{"after": "nope"}, {"limit": 0}, {"limit": "x"}, {"limit": 10**30}, {"sort": "asc"}]
)
@pytest.mark.parametrize("path", ["/v1/files", JOBS, "events", "checkpoints"])
def test_a_list_refuses_what_it_does_not_know(server, path, query):
    if path in ("events", "checkpoints"):
        path = f"{JOBS}/{create(server)['id']}/{path}"
    answer = server.client.get(path, params=query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(query)))


@pytest.mark.parametrize("action", ["", "/events", "/checkpoints"])
def test_an_unknown_job_is_not_found(server, action):
    answer = server.client.get(f"{JOBS}/ftjob-00000000{action}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "fine_tune_not_found")
    for change in ("cancel", "pause", "resume"):
        assert server.client.post(f"{JOBS}/ftjob-00000000/{change}").status_code == 404
