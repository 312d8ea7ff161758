"""Several keys: what each may do, how much of it, and that a key taken away opens nothing a request later."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.responses import PlainTextResponse

from deployments.llm.admittance import build_check
from deployments.llm.errors import answer_refusal
from deployments.llm.keyring import (
    DEFAULT_SCOPES,
    KeyFileError,
    Keyring,
    add_key,
    digest_key,
    read_keys,
    revoke_key,
)
from deployments.llm.keys import main
from deployments.llm.quotas import Quotas
from deployments.llm.request_notes import NoteRequests, get_notes
from deployments.llm.scopes import find_scope
from shared import contracts
from shared.admission import Admission, Rule
from tests.asgi_call import Call

CHAT_PATH = "/v1/chat/completions"
CHAT = {"model": contracts.LOCAL_CHAT_MODEL, "messages": [{"role": "user", "content": "one two three four"}]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "secrets" / "llm_keys.json"


@pytest.fixture
def ask(start, path):
    """Asks a server that knows the keys of the file, with a key."""

    def build():
        client = start(keyring=Keyring("the-default", path)).client

        def ask(key, method="POST", url=CHAT_PATH, **sent):
            json_body = {"json": CHAT} if url == CHAT_PATH else {}
            headers = {"Authorization": f"Bearer {key}"}
            return client.request(method, url, headers=headers, **{**json_body, **sent})

        return ask

    return build()


def test_a_key_is_printed_once_and_kept_as_a_digest(path, capsys):
    assert main(["add", "anna", "--requests-per-minute", "5", "--scopes", "chat"], path) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("gw-") and len(key) > 40
    assert key not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert main(["list"], path) == 0
    line = capsys.readouterr().out
    assert line.startswith("anna  made ") and line.endswith("chat  requests_per_minute=5\n")
    assert Keyring("", path).find(key.encode()).name == "anna"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "default"], "give another name"),
        (["add", "anna"], "give another name"),
        (["add", "two words"], "name"),
        (["add", "x" * 65], "name"),
        (["add", "b", "--concurrency", "0"], "concurrency"),
        (["revoke", "nobody"], "no key nobody"),
        (["revoke", "default"], "llm_api_key"),
    ],
)
def test_what_cannot_be_is_refused_in_words(path, capsys, arguments, message):
    add_key(path, "anna")
    before = path.read_text()
    assert main(arguments, path) == 1
    assert message in capsys.readouterr().err
    assert path.read_text() == before


def test_keys_made_at_once_are_all_kept(path):
    with ThreadPoolExecutor() as pool:
        keys = list(pool.map(lambda number: add_key(path, f"key-{number}"), range(20)))
    ring = Keyring("", path)
    assert [ring.find(key.encode()).name for key in keys] == [f"key-{number}" for number in range(20)]


def test_a_new_key_comes_in_and_a_revoked_one_does_not_without_a_restart(path, ask):
    key = add_key(path, "anna")
    assert (ask(key).status_code, ask("the-default").status_code) == (200, 200)
    revoke_key(path, "anna")
    answer = ask(key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert ask("the-default").status_code == 200
    revoked = read_keys(path)[0].revoked
    revoke_key(path, "anna")
    assert read_keys(path)[0].revoked == revoked is not None


def test_a_file_that_is_damaged_later_leaves_the_keys_as_they_were(path, ask, caplog):
    key = add_key(path, "anna")
    assert ask(key).status_code == 200
    path.write_text('{"keys": [{"name": "ann')
    assert ask(key).status_code == 200
    assert ask("wrong").status_code == 401
    told = [record for record in caplog.records if "is damaged" in record.getMessage()]
    assert len(told) == 1 and "1 keys that were read last go on" in told[0].getMessage()
    path.unlink()
    assert ask(key).status_code == 401


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"\x00", b'{"keys": [{"name": "a"}]}', b'{"keys": [], "more": 1}', b"\xff\xfe"],
)
def test_a_file_that_is_damaged_from_the_beginning_is_refused_in_words(tmp_path, content):
    path = tmp_path / "llm_keys.json"
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match="is damaged"):
        Keyring("key", path)


def test_two_keys_of_one_name_are_refused(path):
    add_key(path, "anna")
    entry = json.loads(path.read_text())["keys"][0]
    path.write_text(json.dumps({"keys": [entry, entry]}))
    with pytest.raises(KeyFileError, match="names anna twice"):
        Keyring("", path)


def test_a_key_file_that_cannot_be_read_is_named(path):
    path.mkdir(parents=True)
    with pytest.raises(KeyFileError, match="can't be read"):
        Keyring("", path)


def test_without_any_key_everyone_may_come_in_and_with_a_revoked_one_nobody(path):
    ring = Keyring("", path)
    assert ring.open and ring.find(b"x") is None
    add_key(path, "anna")
    revoke_key(path, "anna")
    assert not ring.open
    assert Keyring("a").find(b"a") and not Keyring("a").find(b"") and not Keyring("").find(b"")


@pytest.mark.parametrize("lose", [lambda path: path.unlink(), lambda path: path.write_text("{}")])
def test_a_file_of_keys_that_is_lost_opens_nothing(path, lose):
    """Else whoever moves the file, or restores it, lets everyone in meanwhile, on all addresses."""
    key = add_key(path, "anna")
    ring = Keyring("", path)
    lose(path)
    assert not ring.open and ring.find(key.encode()) is None


def test_a_key_is_good_for_its_scopes(path, ask):
    key = add_key(path, "anna", scopes=("embeddings",))
    answer = ask(key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")
    assert "`chat`" in answer.json()["error"]["message"]
    embedding = {"model": contracts.LOCAL_EMBEDDING_MODEL, "input": "one"}
    assert ask(key, url="/v1/embeddings", json=embedding).status_code == 200
    assert ask(key, "GET", "/v1/models").status_code == 200
    assert ask(key, "GET", "/metrics").status_code == 403
    other = add_key(path, "scraper", scopes=("metrics",))
    assert ask(other, "GET", "/metrics").status_code == 200
    assert ask(other).status_code == 403


def test_deleting_a_model_needs_a_scope_that_a_key_has_not_by_itself():
    assert find_scope("DELETE", "/v1/models/ft:one") == "admin"
    assert find_scope("GET", "/v1/models/ft:one") is None
    assert "admin" not in DEFAULT_SCOPES


def test_every_route_needs_a_scope_or_is_one_of_those_for_all(server):
    for_all = {"/health", "/ready", "/v1/models", "/v1/models/{model_id}"}
    paths = {getattr(route, "path_format", "") for route in server.client.app.routes}
    assert {path for path in paths if find_scope("GET", path) is None} <= for_all | {"/openapi.json"}


def test_requests_a_minute_are_limited_as_openai_does(path, ask):
    key = add_key(path, "anna", requests_per_minute=2)
    first = ask(key)
    assert (first.status_code, first.headers["x-ratelimit-limit-requests"]) == (200, "2")
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert ask(key).headers["x-ratelimit-remaining-requests"] == "0"
    third = ask(key)
    assert (third.status_code, third.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert third.json()["error"]["type"] == "requests"
    assert 1 <= int(third.headers["Retry-After"]) <= 60
    assert third.headers["x-ratelimit-reset-requests"].endswith("s")
    assert "x-ratelimit-limit-requests" not in ask("the-default").headers


def test_tokens_a_day_are_used_up_across_a_restart(path, start):
    key = add_key(path, "anna", tokens_per_day=8)
    headers = {"Authorization": f"Bearer {key}"}
    server = start(keyring=Keyring("", path))
    answer = server.client.post(CHAT_PATH, json=CHAT, headers=headers)
    assert (answer.status_code, answer.headers["x-ratelimit-remaining-tokens"]) == (200, "8")
    server.stop()
    client = start(keyring=Keyring("", path)).client
    answer = client.post(CHAT_PATH, json=CHAT, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "insufficient_quota")
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-ratelimit-remaining-tokens"] == "0"
    assert 0 < int(answer.headers["Retry-After"]) <= 86_400


def test_tokens_that_are_counted_after_the_request_are_spent_too(path):
    """Who goes away early would else pay for nothing: half an answer's tokens are counted in a thread of its own."""
    secret, kept, quotas = add_key(path, "anna", tokens_per_day=10), [], Quotas()

    async def app(scope, receive, send):
        kept.append(get_notes())
        await PlainTextResponse("")(scope, receive, send)

    ring = Keyring("", path)
    check = build_check(ring, quotas, is_stopping=lambda: False, is_crowded=lambda: False)
    guarded = Admission(app, rules={"/": Rule(0)}, check=check, answer=answer_refusal)
    asked = NoteRequests(guarded, tell=[], running=set())
    bearer = {"Authorization": f"Bearer {secret}".encode()}
    assert Call(asked, "/v1/models", headers=bearer).status == 200
    kept[0].add("m", 8, 4)
    assert Call(asked, "/v1/models", headers=bearer).status == 429


def test_the_log_names_the_key_and_never_holds_it(path, ask, caplog):
    caplog.set_level("INFO")
    key = add_key(path, "anna", requests_per_minute=1)
    ask(key), ask(key), ask("gw-wrong")
    lines = [line for line in caplog.text.splitlines() if "chat/completions" in line and "key=" in line]
    assert ["key=anna" in line for line in lines] == [True, True, False]
    assert key not in caplog.text and "gw-wrong" not in caplog.text


def test_the_files_time_alone_is_enough_to_read_it_again(path):
    key = add_key(path, "anna")
    ring = Keyring("", path)
    text = path.read_text()
    revoke_key(path, "anna")
    assert ring.find(key.encode()) is None
    path.write_text(text)
    os.utime(path, ns=(1, 1))
    assert ring.find(key.encode()).name == "anna"


def test_a_file_of_the_same_time_and_length_is_read_again(path):
    """Its rights tell too: a file that could not be read, as another user revoked a key, is read once it can be."""
    key = add_key(path, "anna")
    before, text = path.stat(), path.read_text()
    ring = Keyring("", path)
    path.write_text(text.replace(digest_key(key.encode()), "0" * 64))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ring.find(key.encode()) is None
