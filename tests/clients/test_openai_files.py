"""OpenAI's SDK: files, models and images."""

import base64
import time
from collections.abc import Callable

import httpx
import openai
import pytest

from shared import contracts

LINE = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'


def test_a_file_is_kept_as_it_was_sent(client: openai.OpenAI, upload: Callable[..., str]) -> None:
    file_id = upload(LINE * 10, "mine.jsonl")
    file = client.files.retrieve(file_id)
    assert (file.object, file.filename, file.purpose, file.bytes) == (
        "file",
        "mine.jsonl",
        "fine-tune",
        len(LINE) * 10,
    )
    assert abs(file.created_at - time.time()) < 60
    assert client.files.content(file_id).read() == LINE * 10


def test_files_are_listed_a_page_at_a_time(client: openai.OpenAI, upload: Callable[..., str]) -> None:
    mine = [upload(LINE * 10, f"{number}.jsonl") for number in range(5)]
    page = client.files.list(limit=2)
    assert len(page.data) == 2 and page.has_next_page()
    found = [file.id for file in client.files.list(limit=2, purpose="fine-tune")]
    assert len(found) == len(set(found)) and set(mine) <= set(found)
    oldest_first = [file.id for file in client.files.list(limit=2, order="asc")]
    newest_first = [file.id for file in client.files.list(limit=2, order="desc")]
    assert oldest_first == newest_first[::-1]
    assert not {file.id for file in client.files.list(purpose="user_data")} & set(mine)


def test_a_deleted_file_is_gone(client: openai.OpenAI) -> None:
    file = client.files.create(file=("notes.txt", b"some notes"), purpose="user_data")
    assert client.files.delete(file.id).deleted
    for ask in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            ask(file.id)
    assert file.id not in {listed.id for listed in client.files.list()}


@pytest.mark.parametrize("purpose", ["batch", "vision", "nonsense", ""])
def test_a_purpose_that_is_not_served_is_refused(http: httpx.Client, purpose: str) -> None:
    answer = http.post("/v1/files", files={"file": ("a.jsonl", LINE)}, data={"purpose": purpose})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "purpose"


@pytest.mark.parametrize("file_id", ["file-none", "..", "%2e%2e%2fjobs", "file-" + "0" * 24, "a" * 3000])
def test_a_file_that_is_not_there_is_not_found(http: httpx.Client, file_id: str) -> None:
    assert http.get(f"/v1/files/{file_id}/content").status_code == 404


def test_all_models_are_listed(client: openai.OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    wanted = {contracts.LOCAL_CHAT_MODEL, contracts.LOCAL_EMBEDDING_MODEL, contracts.LOCAL_RERANK_MODEL}
    assert wanted <= set(models)
    for name, model in models.items():
        assert model.object == "model" and model.owned_by and model.created > 1_600_000_000
        assert client.models.retrieve(name).id == name


@pytest.mark.models
def test_both_embedding_models_are_listed(client: openai.OpenAI) -> None:
    assert {"all-minilm-l6-v2", "bge-small-en-v1.5"} <= {model.id for model in client.models.list()}


def test_a_model_that_came_with_the_server_stays(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.models.delete(contracts.LOCAL_CHAT_MODEL)
    assert caught.value.status_code in (400, 403)
    client.models.retrieve(contracts.LOCAL_CHAT_MODEL)
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.delete("ft:nothing::00000000")
    assert missing.value.code == "model_not_found"


def test_an_image_is_drawn(client: openai.OpenAI) -> None:
    answer = client.images.generate(
        model=contracts.LOCAL_IMAGE_MODEL, prompt="Rain in Bonn", response_format="b64_json"
    )
    assert answer.data is not None
    assert base64.b64decode(answer.data[0].b64_json or "").startswith(
        (b"\x89PNG", b"<svg", b"<?xml", b"\xff\xd8")
    )


@pytest.mark.parametrize(
    ("param", "value"), [("n", 99), ("size", "7x7"), ("quality", "hd"), ("frobnicate", 1)]
)
def test_an_odd_image_is_refused(client: openai.OpenAI, param: str, value: object) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model=contracts.LOCAL_IMAGE_MODEL, prompt="Rain", extra_body={param: value})
    assert caught.value.param == param
