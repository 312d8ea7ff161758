"""`/v1/responses` as OpenAI's own client reads it, on the fake engine."""

import json
from collections.abc import Callable

import pytest
from openai import APIStatusError, BadRequestError, OpenAI
from openai.types.responses import Response
from pydantic import BaseModel

from deployments.llm.engines.fakes import FakeChatEngine, FakeGeneration
from deployments.llm.engines.ports import EngineError, Piece
from shared import contracts
from tests.unit.llm.conftest import KEY

MODEL = contracts.LOCAL_CHAT_MODEL
LOOK = {
    "type": "function",
    "name": "look",
    "description": "Looks",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
    "strict": False,
}
CALL = '{"name": "look", "arguments": {"at": "the sky"}}'


@pytest.fixture
def connect(start) -> Callable[..., tuple[OpenAI, FakeChatEngine]]:
    """A client of a server whose model says what is given."""

    def build(reply=None, **options):
        engine = FakeChatEngine(reply=(lambda request: reply) if reply is not None else None, **options)
        server = start(engine)
        client = OpenAI(
            base_url="http://testserver/v1", api_key=KEY, http_client=server.client, max_retries=0
        )
        return client, engine

    return build


def test_a_text_is_answered(connect):
    client, engine = connect()
    response = client.responses.create(model=MODEL, input="one two", instructions="Be short", temperature=0)
    assert (response.output_text, response.status, response.model) == ("one two", "completed", MODEL)
    assert (response.usage.input_tokens, response.usage.output_tokens) == (4, 2)
    assert engine.requests[0].prompt[0] == {"role": "system", "content": "Be short"}
    assert response.to_dict()["store"] is False
    Response.model_validate(response.to_dict())


def test_a_limit_makes_it_incomplete(connect):
    client, _ = connect()
    response = client.responses.create(model=MODEL, input="one two three", max_output_tokens=2)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (response.output_text, response.output[0].status) == ("one two", "incomplete")


def test_a_stream_builds_the_same_response(connect):
    client, _ = connect()
    with client.responses.stream(model=MODEL, input="one two three") as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert [event.delta for event in events if event.type == "response.output_text.delta"] == [
        "one",
        " two",
        " three",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (final.output_text, final.status) == ("one two three", "completed")


def test_a_cut_stream_ends_incomplete(connect):
    client, _ = connect()
    events = list(
        client.responses.create(model=MODEL, input="one two three", max_output_tokens=1, stream=True)
    )
    assert events[-1].type == "response.incomplete"
    assert (events[-1].response.output_text, events[-1].response.usage.output_tokens) == ("one", 1)


def test_an_answer_is_parsed(connect):
    class Place(BaseModel):
        name: str
        floors: int

    client, engine = connect('{"name": "tower", "floors": 3}')
    response = client.responses.parse(model=MODEL, input="where", text_format=Place)
    assert response.output_parsed == Place(name="tower", floors=3)
    assert engine.requests[0].json_schema["required"] == ["name", "floors"]


def test_calls_and_their_results(connect):
    client, engine = connect(CALL)
    response = client.responses.create(model=MODEL, input="look up", tools=[LOOK], tool_choice="required")
    (call,) = response.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "look", {"at": "the sky"})
    assert response.tools[0].name == "look" and response.tool_choice == "required"
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "blue"}
    asked = [{"role": "user", "content": "look up"}, call.to_dict(), result]
    client.responses.create(model=MODEL, input=asked)
    assert engine.requests[-1].prompt == [
        {"role": "user", "content": "look up"},
        {"role": "assistant", "content": CALL},
        {"role": "user", "content": "look answered:\nblue"},
    ]


def test_calls_are_streamed(connect):
    client, _ = connect(
        '{"tool_calls": [{"name": "look", "arguments": {"at": "a"}}, {"name": "look", "arguments": {}}]}'
    )
    with client.responses.stream(model=MODEL, input="look up", tools=[LOOK]) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [json.loads(item.arguments) for item in final.output] == [{"at": "a"}, {}]
    done = [event.arguments for event in events if event.type == "response.function_call_arguments.done"]
    deltas = [event for event in events if event.type == "response.function_call_arguments.delta"]
    assert done == ["".join(d.delta for d in deltas if d.output_index == index) for index in (0, 1)]


def test_words_beside_tools_are_a_message(connect):
    client, _ = connect('{"response": "just words"}')
    with client.responses.stream(model=MODEL, input="hi", tools=[LOOK]) as stream:
        assert stream.get_final_response().output_text == "just words"


def test_a_call_that_was_cut_is_not_whole(connect):
    client, _ = connect(CALL)
    response = client.responses.create(model=MODEL, input="look", tools=[LOOK], max_output_tokens=4)
    assert (response.status, response.output[0].status) == ("incomplete", "incomplete")


def test_log_probabilities(connect):
    client, _ = connect()
    response = client.responses.create(
        model=MODEL, input="one two", include=["message.output_text.logprobs"], top_logprobs=2
    )
    told = response.output[0].content[0].logprobs
    assert [(token.token, len(token.top_logprobs)) for token in told] == [("one", 2), (" two", 2)]
    with client.responses.stream(
        model=MODEL, input="one two", include=["message.output_text.logprobs"]
    ) as stream:
        deltas = [event for event in stream if event.type == "response.output_text.delta"]
    assert [delta.logprobs[0].token for delta in deltas] == ["one", " two"]


def test_a_conversation_of_parts(connect):
    client, engine = connect()
    said = {"type": "output_text", "text": "Hello", "annotations": []}
    earlier = {
        "type": "message",
        "role": "assistant",
        "id": "msg_1",
        "status": "completed",
        "content": [said],
    }
    client.responses.create(
        model=MODEL,
        input=[
            {"role": "developer", "content": "Be kind"},
            earlier,
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        ],
    )
    assert [(m["role"], m["content"]) for m in engine.requests[0].prompt] == [
        ("system", "Be kind"),
        ("assistant", "Hello"),
        ("user", "hi"),
    ]


REFUSED = [
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"store": True}, "store"),
    ({"background": True}, "background"),
    ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
    ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
    ({"truncation": "auto"}, "truncation"),
    ({"include": ["file_search_call.results"]}, "include.0"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_output_tokens": 500}, "input"),
    ({"temperature": 3}, "temperature"),
    ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
    ({"tools": [LOOK, LOOK]}, "tools"),
    ({"tools": [LOOK], "tool_choice": {"type": "function", "name": "no"}}, "tool_choice"),
    ({"text": {"format": {"type": "grammar"}}}, "text.format"),
    ({"text": {"verbosity": "low"}}, "text.verbosity"),
    ({"input": []}, "input"),
    ({"input": "word " * 300}, "input"),
    ({"input": [{"type": "reasoning", "summary": []}]}, "input.0"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0"),
    ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input.0.call_id"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        "input.0.content.0",
    ),
    ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
    ({"extra_body": {"nonsense": 1}}, "nonsense"),
    ({"metadata": {"a": "x" * 513}}, "metadata.a"),
]


def test_what_cannot_be_done_is_refused_by_name(connect):
    client, _ = connect()
    for change, param in REFUSED:
        with pytest.raises(BadRequestError) as refusal:
            client.responses.create(**{"model": MODEL, "input": "hi", **change})
        assert refusal.value.param == param, change


def test_half_a_surrogate_pair_in_metadata_is_refused(start):
    body = {"model": MODEL, "input": "hi", "metadata": {"a": "\ud800"}}
    sent = {"content": json.dumps(body), "headers": {"Content-Type": "application/json"}}
    answer = start().client.post("/v1/responses", **sent)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "metadata")


def test_what_has_no_effect_is_let_pass(connect):
    client, _ = connect()
    response = client.responses.create(
        model=MODEL,
        input="hi",
        store=False,
        metadata={"a": "b"},
        truncation="disabled",
        service_tier="auto",
        include=["reasoning.encrypted_content"],
        reasoning={"effort": None},
        text={"verbosity": "medium", "format": {"type": "text"}},
        parallel_tool_calls=True,
        tool_choice="auto",
        previous_response_id=None,
        prompt_cache_key="k",
    )
    assert (response.output_text, response.metadata) == ("hi", {"a": "b"})


def test_an_unknown_model_is_a_404(connect):
    client, _ = connect()
    with pytest.raises(APIStatusError) as refusal:
        client.responses.create(model="nope", input="hi")
    assert (refusal.value.status_code, refusal.value.code) == (404, "model_not_found")


def test_a_stream_that_fails_says_so(connect, monkeypatch):
    class Broken(FakeGeneration):
        def __iter__(self):
            yield Piece("one")
            raise EngineError("the device is lost")

    client, engine = connect()
    broken = Broken(["one"], 1, 5, None)
    monkeypatch.setattr(engine, "generate", lambda request: broken)
    events = list(client.responses.create(model=MODEL, input="hi", stream=True))
    assert events[-1].type == "response.failed"
    assert (events[-1].response.status, events[-1].response.error.message) == ("failed", "the device is lost")
    assert broken.cancelled.is_set()
