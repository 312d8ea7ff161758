"""`/v1/models`, `/tokenize` and `/detokenize`, and what the picture route refuses."""

import json

import pytest

from shared import contracts
from tests.unit.llm.test_llm_fine_tuning import create, wait_for

MODEL = contracts.LOCAL_CHAT_MODEL


@pytest.fixture
def tuned(server):
    """The id of a fine-tuned model."""
    job = create(server)
    return wait_for(server, job, "succeeded")["fine_tuned_model"]


def test_a_fine_tuned_model_can_be_deleted_once(server, tuned, caplog):
    path = f"/v1/models/{tuned}"
    assert server.client.get(path).status_code == 200 and tuned in server.engine.adapters
    with caplog.at_level("WARNING", logger="deployments.llm"):
        body = server.client.delete(path).json()
    assert {name: body[name] for name in ("id", "object", "deleted")} == {
        "id": tuned,
        "object": "model",
        "deleted": True,
    }
    assert "alias" in body["warning"] and tuned in caplog.text
    assert tuned not in server.engine.adapters
    for answer in (server.client.get(path), server.client.delete(path)):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    said = {"model": tuned, "messages": [{"role": "user", "content": "hi"}]}
    assert server.client.post("/v1/chat/completions", json=said).status_code == 404


def test_a_deleted_model_stays_deleted_and_its_job_stays(server, tuned, start):
    server.client.delete(f"/v1/models/{tuned}")
    server.stop()
    again = start()
    assert tuned not in [model["id"] for model in again.client.get("/v1/models").json()["data"]]
    (job,) = again.client.get("/v1/fine_tuning/jobs").json()["data"]
    assert (job["status"], job["fine_tuned_model"]) == ("succeeded", tuned)


def test_a_model_of_another_base_is_kept_and_says_which_base_it_needs(server, tuned, start, tmp_path, caplog):
    (job,) = server.jobs.list()
    server.stop()
    config = server.jobs.adapter_dir(job.id) / "adapter_config.json"
    config.write_text(json.dumps({"base_model_name_or_path": "/there/then/old-base"}))
    with caplog.at_level("WARNING", logger="deployments.llm"):
        other = start(llm_base_model=str(tmp_path / "new-base"))
    assert tuned in caplog.text and tuned not in other.engine.adapters
    assert tuned not in [model["id"] for model in other.client.get("/v1/models").json()["data"]]
    said = [{"role": "user", "content": "hi"}]
    answers = [other.client.get(f"/v1/models/{tuned}")] + [
        other.client.post(path, json={"model": tuned, **body})
        for path, body in (
            ("/v1/chat/completions", {"messages": said}),
            ("/v1/chat/completions", {"messages": said, "stream": True}),
            ("/v1/completions", {"prompt": "hi"}),
            ("/v1/responses", {"input": "hi"}),
            ("/tokenize", {"prompt": "hi"}),
        )
    ]
    for answer in answers:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert all(words in error["message"] for words in ("old-base", "new-base", "kept on disk"))
    assert "does not exist" in other.client.get("/v1/models/ft:else").json()["error"]["message"]
    other.stop()
    again = start(llm_base_model=str(tmp_path / "old-base"))
    assert again.client.get(f"/v1/models/{tuned}").status_code == 200
    again.stop()
    deleting = start(llm_base_model=str(tmp_path / "new-base"))
    assert deleting.client.delete(f"/v1/models/{tuned}").json()["deleted"]


@pytest.mark.parametrize("model", [MODEL, contracts.LOCAL_EMBEDDING_MODEL])
def test_what_is_not_fine_tuned_cannot_be_deleted(server, model):
    answer = server.client.delete(f"/v1/models/{model}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_deletable")
    assert server.client.get(f"/v1/models/{model}").status_code == 200


def test_a_model_whose_id_has_a_slash_is_found(server):
    server.engine.chat_model = "maker/model"
    assert server.client.get("/v1/models/maker%2Fmodel").json()["id"] == "maker/model"


def test_tokens_go_there_and_back(server):
    there = server.client.post("/tokenize", json={"model": MODEL, "prompt": "one two one"}).json()
    assert there == {"count": 3, "max_model_len": 200, "tokens": [0, 1, 0]}
    back = server.client.post("/detokenize", json={"model": MODEL, "tokens": there["tokens"]})
    assert back.json() == {"prompt": "one two one"}


REFUSED = [
    ("/tokenize", {}, 400, "messages"),
    ("/tokenize", {"prompt": "x", "messages": [{"role": "user", "content": "x"}]}, 400, "messages"),
    ("/tokenize", {"prompt": "x", "model": "nope"}, 404, "model"),
    ("/tokenize", {"prompt": "x", "model": contracts.LOCAL_EMBEDDING_MODEL}, 400, "model"),
    ("/tokenize", {"prompt": "x", "add_special_tokens": True}, 400, "add_special_tokens"),
    ("/tokenize", {"prompt": "x", "return_token_strs": True}, 400, "return_token_strs"),
    (
        "/tokenize",
        {"messages": [{"role": "user", "content": "x"}], "add_generation_prompt": False},
        400,
        "add_generation_prompt",
    ),
    ("/detokenize", {"tokens": [10**9]}, 400, "tokens"),
    ("/detokenize", {"tokens": ["a"]}, 400, "tokens.0"),
    ("/detokenize", {"tokens": [1], "model": "nope"}, 404, "model"),
    ("/v1/images/generations", {"prompt": "x", "n": 2}, 400, "n"),
    ("/v1/images/generations", {"prompt": "x", "response_format": "url"}, 400, "response_format"),
    ("/v1/images/generations", {"prompt": "x", "quality": "hd"}, 400, "quality"),
    ("/v1/images/generations", {"prompt": "x", "style": "vivid"}, 400, "style"),
    ("/v1/images/generations", {"prompt": "x", "background": "transparent"}, 400, "background"),
    ("/v1/images/generations", {"prompt": "x", "output_format": "webp"}, 400, "output_format"),
    ("/v1/images/generations", {"prompt": "x", "partial_images": 2}, 400, "partial_images"),
    ("/v1/images/generations", {"prompt": ""}, 400, "prompt"),
    ("/v1/images/generations", {"prompt": "x", "model": "dall-e-3"}, 404, "model"),
]


def test_what_cannot_be_done_is_refused_by_name(server):
    for path, body, status, param in REFUSED:
        answer = server.client.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


def test_a_picture_may_be_asked_for_as_it_is_drawn_anyway(server):
    asked = {
        "quality": "auto",
        "background": "opaque",
        "output_format": "png",
        "n": 1,
        "user": "u",
        "style": None,
    }
    body = {"prompt": "x", "size": "256x256", "response_format": "b64_json", **asked}
    assert server.client.post("/v1/images/generations", json=body).status_code == 200
