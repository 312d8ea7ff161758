"""Uploads as people make them, and what the file routes refuse."""

import errno
import io
import re

import pytest

from deployments.llm.uploads import FileStore
from tests.unit.llm.test_llm_fine_tuning import GOOD

LINE = GOOD.encode()


def send(server, content=LINE, **fields):
    data = {"purpose": "fine-tune", **fields}
    return server.client.post("/v1/files", files={"file": ("set.jsonl", content)}, data=data)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\n\n", "holds no example"),
        (GOOD.encode() + b"\n\n{oops", "Line 3: not JSON"),
        (GOOD.encode() + b"\n\xff", "Line 2: not UTF-8"),
        (GOOD.encode() + b"\n" + b"x" * (4 * 2**20 + 1), "Line 2: longer than 4,194,304 bytes"),
        (b'{"messages": ' + b"[" * 100_000, "Line 1: .*nested too deep"),
    ],
)
def test_a_training_file_is_checked_as_it_comes(server, content, reason):
    answer = send(server, content).json()["error"]
    assert (answer["param"], answer["code"]) == ("file", "invalid_file_format")
    assert re.search(reason, answer["message"])
    assert server.client.get("/v1/files").json()["data"] == []


def test_a_training_file_is_kept_as_it_was_sent(server):
    content = b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n"
    file = send(server, content).json()
    assert server.client.get(f"/v1/files/{file['id']}/content").content == content


def test_other_data_is_not_looked_at(server):
    assert send(server, b"\xff", purpose="user_data").status_code == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "assistants"}, "purpose"),
        ({"purpose": "fine-tune-results"}, "purpose"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}, "expires_after"),
        ({"colour": "red"}, "colour"),
        ({"purpose": ["fine-tune", "user_data"]}, "purpose"),
    ],
)
def test_a_form_with_more_than_is_known_is_refused(server, fields, param):
    answer = send(server, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert server.client.get("/v1/files").json()["data"] == []


def test_a_second_file_in_a_form_is_refused(server):
    sent = [("file", ("a.jsonl", GOOD.encode())), ("file", ("b.jsonl", GOOD.encode()))]
    answer = server.client.post("/v1/files", files=sent, data={"purpose": "fine-tune"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")


def test_files_are_listed_by_purpose(server):
    training, other = send(server).json()["id"], send(server, purpose="user_data").json()["id"]
    for purpose, expected in (("fine-tune", [training]), ("user_data", [other]), ("batch", [])):
        page = server.client.get("/v1/files", params={"purpose": purpose}).json()
        assert [file["id"] for file in page["data"]] == expected


def test_an_upload_to_a_full_disk_says_so_and_the_next_one_succeeds(server, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", fail_full)
        answer = send(server)
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
    assert "Free some space" in answer.json()["error"]["message"]
    assert send(server).status_code == 200
    assert len(server.client.get("/v1/files").json()["data"]) == 1


def test_an_upload_to_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", fail_full)
    with pytest.raises(OSError, match="No space"):
        FileStore(tmp_path).add(io.BytesIO(b"x"), "set.jsonl", "fine-tune")
    assert list(tmp_path.iterdir()) == []


def fail_full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")
