"""An `Idempotency-Key` is that of who sends it: two users may choose the same one."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from deployments.llm.keyring import Keyring, add_key
from deployments.training.proposals import Order
from deployments.training.tuning.openai import OpenAiTuning
from tests.unit.llm.conftest import KEY
from tests.unit.llm.test_job_requests import MODEL, upload
from tests.unit.llm.test_llm_fine_tuning import ENDLESS, JOBS, stop


@pytest.fixture
def path(tmp_path):
    return tmp_path / "secrets" / "llm_keys.json"


@pytest.fixture
def anna(path):
    return add_key(path, "anna")


def order(server, file, api_key=KEY, **fields):
    headers = {"Idempotency-Key": "monday", "Authorization": f"Bearer {api_key}"}
    body = {"model": MODEL, "training_file": file, **fields}
    answer = server.client.post(JOBS, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def test_two_users_with_the_same_key_make_two_jobs_also_after_a_restart(start, path, anna):
    server = start(keyring=Keyring(KEY, path), trainer=ENDLESS)
    file = upload(server)
    first, second = order(server, file), order(server, file, anna, suffix="hers")
    assert first != second
    again = start(keyring=Keyring(KEY, path), trainer=ENDLESS) if stop(server) else None
    assert order(again, file) == first
    assert order(again, file, anna, suffix="hers") == second
    assert len(again.client.get(JOBS).json()["data"]) == 2


def test_users_that_ask_at_once_make_one_job_each(start, path, anna):
    server = start(keyring=Keyring(KEY, path), trainer=ENDLESS)
    file = upload(server)
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda key: order(server, file, key), (KEY, anna) * 6))
    assert len(set(jobs[::2])) == len(set(jobs[1::2])) == 1
    assert len(server.client.get(JOBS).json()["data"]) == 2


def test_a_job_that_was_made_before_keys_were_told_apart_counts_for_everyone(start, path, anna):
    server = start(keyring=Keyring(KEY, path), trainer=ENDLESS)
    file = upload(server)
    job = order(server, file)
    record = stop(server).jobs.job_dir(job) / "job.json"
    old = json.loads(record.read_text())
    assert old["server"].pop("asker") == "default"
    record.write_text(json.dumps(old))
    again = start(keyring=Keyring(KEY, path), trainer=ENDLESS)
    assert order(again, file) == order(again, file, anna) == job


def test_ones_own_job_counts_before_one_that_is_nobodys(start, path, anna):
    server = start(keyring=Keyring(KEY, path), trainer=ENDLESS)
    file = upload(server)
    theirs, hers = order(server, file), order(server, file, anna, suffix="hers")
    record = stop(server).jobs.job_dir(theirs) / "job.json"
    old = json.loads(record.read_text())
    del old["server"]["asker"]
    record.write_text(json.dumps(old))
    again = start(keyring=Keyring(KEY, path), trainer=ENDLESS)
    assert order(again, file, anna, suffix="hers") == hers


def test_a_job_of_an_open_server_counts_once_it_has_keys(start, path):
    server = start(api_key="", trainer=ENDLESS)
    file = upload(server)
    job = order(server, file)
    assert order(server, file) == job
    again = start(keyring=Keyring(KEY, path), trainer=ENDLESS) if stop(server) else None
    assert order(again, file) == job


def test_training_asks_by_a_key_so_that_a_repeated_request_makes_no_second_job(start, tmp_path):
    server = start(trainer=ENDLESS)

    def forward(request):
        target = request.url.raw_path.decode()
        sent = server.client.request(
            request.method, target, content=request.read(), headers=dict(request.headers)
        )
        return httpx2.Response(sent.status_code, content=sent.content)

    tuning = OpenAiTuning("http://x/v1", KEY, max_retries=0, transport=httpx2.MockTransport(forward))
    wanted = Order("set-1", MODEL, 2, 1.0, "notes")
    file = upload(server)
    first, second = (tuning.create_job(wanted, file, file, wanted.name_request("")).id for _ in range(2))
    replaced = tuning.create_job(wanted, file, file, wanted.name_request(first))
    assert first == second != replaced.id
