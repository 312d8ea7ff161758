"""A client that goes away takes its generations with it, whole answers and streams, on all three routes."""

import asyncio
import json
import threading

import pytest

from deployments.llm.engines.fakes import FakeChatEngine
from shared import contracts
from tests.unit.llm.conftest import KEY

PROMPTS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "one two three"}], "n": 2},
    "/v1/completions": {"prompt": ["one two three", "four five"]},
    "/v1/responses": {"input": "one two three"},
}


async def leave_early(app, path, body, engine, words):
    """Asks, waits until so many words are written, and goes; what was answered until then."""
    gone, sent, asked = asyncio.Event(), [], [json.dumps(body).encode()]

    async def receive():
        if asked:
            return {"type": "http.request", "body": asked.pop(), "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message.get("body", b""))

    headers = {b"authorization": f"Bearer {KEY}".encode(), b"content-type": b"application/json"}
    scope = {"type": "http", "method": "POST", "path": path, "root_path": "", "query_string": b""}
    call = asyncio.ensure_future(app({**scope, "headers": list(headers.items())}, receive, send))
    async with asyncio.timeout(20):
        while not engine.generations or b"".join(sent).count(b'"one"') < words:
            assert not call.done(), sent
            await asyncio.sleep(0.01)
        gone.set()
        await call
    return b"".join(sent)


@pytest.mark.parametrize("path", PROMPTS)
@pytest.mark.parametrize("stream", [False, True])
def test_nothing_is_written_for_who_has_gone(start, path, stream):
    engine = FakeChatEngine(gate=threading.Semaphore(2))
    server = start(engine)
    body = {"model": contracts.LOCAL_CHAT_MODEL, **PROMPTS[path], "stream": stream}
    seen = asyncio.run(leave_early(server.client.app, path, body, engine, words=int(stream)))
    assert engine.generations and all(generation.cancelled.is_set() for generation in engine.generations)
    assert b"[DONE]" not in seen and b"response.completed" not in seen
