"""What a scraper reads: counts by bounded labels, in a registry of the application's own."""

import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments.llm.engines.fakes import FakeChatEngine
from shared import contracts

CHAT_PATH = "/v1/chat/completions"
MODEL = contracts.LOCAL_CHAT_MODEL
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "one two three four"}]}


EXAMPLE = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'


def scrape(server):
    """Samples by name and labels."""
    answer = server.client.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    families = list(text_string_to_metric_families(answer.text))
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_it_needs_a_key(server):
    assert server.client.get("/metrics", headers={"Authorization": ""}).status_code == 401


def test_an_answer_is_counted_with_its_tokens_and_times(server):
    server.client.post(CHAT_PATH, json=CHAT)
    server.client.post(CHAT_PATH, json={**CHAT, "stream": True, "max_tokens": 1})
    samples = scrape(server)
    route = f"route={CHAT_PATH}"
    assert samples["llm_requests_total", "key=default", "method=POST", route, "status=200"] == 2
    assert samples["llm_request_seconds_count", "method=POST", route] == 2
    assert samples["llm_tokens_total", "key=default", "kind=prompt", f"model={MODEL}"] == 8
    assert samples["llm_tokens_total", "key=default", "kind=completion", f"model={MODEL}"] == 5
    assert samples["llm_first_token_seconds_count", f"model={MODEL}"] == 2
    assert samples["llm_generations_total", "end=stop", f"model={MODEL}"] == 1
    assert samples["llm_generations_total", "end=length", f"model={MODEL}"] == 1
    assert samples["llm_work", "kind=chat"] == samples["llm_work_waiting", "kind=chat"] == 0


def test_vectors_and_texts_are_counted(server):
    model = contracts.LOCAL_EMBEDDING_MODEL
    server.client.post("/v1/embeddings", json={"model": model, "input": ["one two", "three"] * 40})
    samples = scrape(server)
    assert samples["llm_embedded_texts_total", "key=default", f"model={model}"] == 80
    assert samples["llm_tokens_total", "key=default", "kind=prompt", f"model={model}"] == 120


def test_labels_hold_nothing_that_a_stranger_made_up(server):
    server.client.post(CHAT_PATH, json={**CHAT, "model": "made-up-model"})
    server.client.get("/v1/models/made-up-model")
    server.client.get("/made-up-path")
    server.client.request("MADEUP", "/v1/models")
    server.client.get("/v1/models", headers={"Authorization": "Bearer made-up-key"})
    text = server.client.get("/metrics").text.lower()
    assert "made-up" not in text and "madeup" not in text
    samples = scrape(server)
    assert samples["llm_requests_total", "key=default", "method=GET", "route=unmatched", "status=404"] == 1
    refused = samples["llm_requests_total", "key=-", "method=GET", "route=unmatched", "status=401"]
    assert refused == 1


def test_half_an_answer_is_counted_by_why_it_ended(start):
    server = start(FakeChatEngine(gate=threading.Semaphore(2)), llm_request_timeout=0.1)
    server.client.post(CHAT_PATH, json=CHAT)
    samples = scrape(server)
    assert samples["llm_generations_total", "end=RequestTimeoutError", f"model={MODEL}"] == 1
    assert samples["llm_tokens_total", "key=default", "kind=completion", f"model={MODEL}"] == 2


def test_jobs_and_the_process_are_told(server):
    file = server.client.post(
        "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("set.jsonl", EXAMPLE)}
    ).json()
    job = {"model": MODEL, "training_file": file["id"]}
    assert server.client.post("/v1/fine_tuning/jobs", json=job).status_code == 200
    samples = scrape(server)
    assert sum(value for name, value in samples.items() if name[0] == "llm_jobs") == 1
    assert samples["process_resident_memory_bytes",] > 10_000_000


def test_two_applications_in_a_process_count_by_themselves(start, tmp_path):
    first, second = start(), start(state=tmp_path / "other")
    first.client.post(CHAT_PATH, json=CHAT)
    wanted = ("llm_generations_total", "end=stop", f"model={MODEL}")
    assert scrape(first)[wanted] == 1
    assert wanted not in scrape(second)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_metrics_are_only_read(server, method):
    assert server.client.request(method, "/metrics").status_code == 405
