"""Tools over `/v1/chat/completions`: what the model is told and held to, and how its answer becomes calls."""

import json
from collections.abc import Callable

import pytest
from openai import BadRequestError, OpenAI

from deployments.llm.api.tool_answers import Arguments, CallBegun, ToolAnswer, Words
from deployments.llm.engines.fakes import FakeChatEngine
from shared import contracts
from tests.unit.llm.conftest import KEY

MODEL = contracts.LOCAL_CHAT_MODEL
ASKED = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Weather in Bonn?"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells it", "parameters": PARAMETERS},
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
CALL = '{"name": "weather", "arguments": {"city": "Bonn \\"am\\" Rhein"}}'
TWO = f'{{"tool_calls": [{CALL}, {{"name":"clock","arguments":{{}}}}]}}'


def object_schema(**properties):
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


CALL_WEATHER = object_schema(
    name={"const": "weather"}, arguments={**PARAMETERS, "additionalProperties": False}
)
CALL_CLOCK = object_schema(name={"const": "clock"}, arguments={**object_schema(), "required": []})
del CALL_CLOCK["properties"]["arguments"]["required"]
SAY = object_schema(response={"type": "string"})


@pytest.fixture
def connect(start) -> Callable[..., tuple[OpenAI, FakeChatEngine]]:
    """A client of a server whose model says what is given."""

    def build(reply="", **options):
        engine = FakeChatEngine(reply=lambda request: reply, **options)
        client = OpenAI(
            base_url="http://testserver/v1", api_key=KEY, http_client=start(engine).client, max_retries=0
        )
        return client, engine

    return build


def ask(connected, **change):
    client, engine = connected
    answer = client.chat.completions.create(model=MODEL, messages=ASKED, tools=[WEATHER, CLOCK], **change)
    return answer.choices[0], engine.requests[-1]


def test_a_call_is_a_tool_call(connect):
    choice, request = ask(connect(CALL), parallel_tool_calls=False)
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert call.id.startswith("call_") and call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == (
        "weather",
        {"city": 'Bonn "am" Rhein'},
    )
    assert request.json_schema == {"anyOf": [CALL_WEATHER, CALL_CLOCK, SAY]}
    system = request.prompt[0]["content"]
    assert system.startswith("Be short.\n\n") and '"name": "weather", "description": "Tells it"' in system
    assert '{"response": <your words>}' in system and request.prompt[1] == ASKED[1]


def test_words_are_content(connect):
    choice, _ = ask(connect('{"response": "I do not \\u00e9 know\\n"}'))
    assert (choice.finish_reason, choice.message.content) == ("stop", "I do not é know\n")
    assert choice.message.tool_calls is None


def test_several_calls(connect):
    choice, request = ask(connect(TWO))
    assert [call.function.name for call in choice.message.tool_calls] == ["weather", "clock"]
    assert len({call.id for call in choice.message.tool_calls}) == 2
    many = {"type": "array", "items": {"anyOf": [CALL_WEATHER, CALL_CLOCK]}, "minItems": 1, "maxItems": 4}
    assert request.json_schema == {"anyOf": [object_schema(tool_calls=many), SAY]}


@pytest.mark.parametrize(
    ("change", "schema"),
    [
        ({"tool_choice": "required", "parallel_tool_calls": False}, {"anyOf": [CALL_WEATHER, CALL_CLOCK]}),
        ({"tool_choice": {"type": "function", "function": {"name": "clock"}}}, CALL_CLOCK),
        ({"tool_choice": "none"}, None),
        (
            {
                "parallel_tool_calls": False,
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "required",
                        "tools": [{"type": "function", "function": {"name": "weather"}}],
                    },
                },
            },
            CALL_WEATHER,
        ),
        (
            {"parallel_tool_calls": False, "response_format": {"type": "json_object"}},
            {"anyOf": [CALL_WEATHER, CALL_CLOCK, object_schema(response={"type": "object"})]},
        ),
    ],
    ids=["required", "named", "none", "allowed", "json"],
)
def test_the_choice_is_what_the_answer_is_held_to(connect, change, schema):
    assert ask(connect(CALL), **change)[1].json_schema == schema


def test_tools_that_are_not_to_be_called_are_not_told(connect):
    choice, request = ask(connect(CALL), tool_choice="none")
    assert (choice.message.content, request.prompt) == (CALL, ASKED)


def test_json_beside_tools_stays_json(connect):
    choice, _ = ask(connect('{"response": {"a": "}"} }'), response_format={"type": "json_object"})
    assert json.loads(choice.message.content) == {"a": "}"}


def test_a_call_that_was_cut_is_not_shown_as_whole(connect):
    choice, _ = ask(connect(TWO), max_tokens=8)
    assert choice.finish_reason == "length"
    assert [call.function.name for call in choice.message.tool_calls] == ["weather"]
    choice, _ = ask(connect(CALL), max_tokens=4)
    assert (choice.finish_reason, choice.message.tool_calls, choice.message.content) == ("length", None, "")
    choice, _ = ask(connect('{"response": "one two three"}'), max_tokens=3)
    assert (choice.finish_reason, choice.message.content) == ("length", "one two")


def test_a_stop_sequence_cuts_words_and_no_json(connect):
    choice, request = ask(connect('{"response": "one two three"}'), stop=[" three", '"'])
    assert (choice.message.content, request.stop) == ("one two", ())
    assert ask(connect(CALL), stop=["Bonn"])[0].finish_reason == "tool_calls"


def test_calls_are_streamed_name_first(connect):
    client, _ = connect(TWO)
    events = list(
        client.chat.completions.create(model=MODEL, messages=ASKED, tools=[WEATHER, CLOCK], stream=True)
    )
    deltas = [call for event in events for call in event.choices[0].delta.tool_calls or ()]
    for index, name in enumerate(("weather", "clock")):
        first, *rest = [delta for delta in deltas if delta.index == index]
        assert (first.function.name, first.function.arguments, first.type) == (name, "", "function")
        assert first.id.startswith("call_") and all(delta.id is None for delta in rest)
        json.loads("".join(delta.function.arguments for delta in rest))
    assert len([delta for delta in deltas if delta.index == 0]) > 2, "arguments come as they are written"
    assert events[-1].choices[0].finish_reason == "tool_calls"


def test_the_clients_own_stream_reads_them(connect):
    client, _ = connect(CALL)
    with client.chat.completions.stream(model=MODEL, messages=ASKED, tools=[WEATHER]) as stream:
        for _ in stream:
            pass
        (call,) = stream.get_final_completion().choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": 'Bonn "am" Rhein'}


def test_words_are_streamed_as_they_come(connect):
    client, _ = connect('{"response": "one two \\ud83d\\ude00 three"}')
    events = client.chat.completions.create(model=MODEL, messages=ASKED, tools=[WEATHER], stream=True)
    pieces = [event.choices[0].delta.content for event in events if event.choices[0].delta.content]
    assert "".join(pieces) == "one two 😀 three" and len(pieces) == 4


def test_a_history_of_calls_is_told_in_the_form_that_is_asked_for(connect):
    client, engine = connect("ok")
    call = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}
    client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "user", "content": "both"},
            {"role": "assistant", "content": None, "tool_calls": [{**call, "id": "a"}, {**call, "id": "b"}]},
            {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "rain"}]},
            {"role": "tool", "tool_call_id": "a", "content": "sun"},
        ],
    )
    one = '{"name": "weather", "arguments": {"city": "Bonn"}}'
    assert [message["content"] for message in engine.requests[0].prompt] == [
        "both",
        f'{{"tool_calls": [{one}, {one}]}}',
        "weather answered:\nrain",
        "weather answered:\nsun",
    ]


def test_a_strict_tool_must_be_one_that_can_be_held_to(connect):
    client, engine = connect(CALL)
    odd = {"type": "object", "properties": {"n": {"type": "integer", "not": {"const": 5}}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": odd, "strict": True}}
    with pytest.raises(BadRequestError) as refusal:
        client.chat.completions.create(model=MODEL, messages=ASKED, tools=[tool])
    assert refusal.value.param == "tools.0.function.parameters.properties.n.not"
    tool["function"]["strict"] = False
    client.chat.completions.create(model=MODEL, messages=ASKED, tools=[tool], tool_choice="required")
    assert '"not"' in engine.requests[0].prompt[0]["content"]
    assert '"not"' not in json.dumps(engine.requests[0].json_schema)


def test_many_large_tools_are_too_much(connect):
    client, _ = connect(CALL)
    large = {"type": "object", "properties": {"a": {"enum": ["x" * 30_000]}}}
    tools = [{"type": "function", "function": {"name": f"f{i}", "parameters": large}} for i in range(3)]
    with pytest.raises(BadRequestError, match="longer than") as refusal:
        client.chat.completions.create(model=MODEL, messages=ASKED, tools=tools)
    assert refusal.value.param == "tools"


def test_a_strict_tools_parameters_are_an_object(connect):
    client, _ = connect(CALL)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}
    with pytest.raises(BadRequestError) as refusal:
        client.chat.completions.create(model=MODEL, messages=ASKED, tools=[tool])
    assert refusal.value.param == "tools.0.function.parameters.type"


@pytest.mark.parametrize(
    "text",
    [
        CALL,
        TWO,
        ' {\n "tool_calls" : [ ' + CALL + " , " + CALL + " ] } ",
        '{"response": "a\\nb \\ud83d\\ude00 \\\\ \\" \\u00fc"}',
        '{"arguments": {"a": [1]}, "name": "late"}',
        "no JSON at all",
        '{"else": 1}',
        "",
        '{"name": "weather", "arguments": {"a": ',
        '{"response": "half a pair \\ud83d"}',
    ],
)
def test_an_answer_reads_the_same_in_one_piece_and_in_many(text):
    def read(pieces):
        reader = ToolAnswer()
        parts = [part for piece in pieces for part in reader.push(piece)] + reader.end()
        words = "".join(part.text for part in parts if isinstance(part, Words))
        calls = [part.name for part in parts if isinstance(part, CallBegun)]
        arguments = {}
        for part in parts:
            if isinstance(part, Arguments):
                arguments[part.index] = arguments.get(part.index, "") + part.json
        return words, calls, arguments, reader.called

    assert read(text) == read([text])
    words, calls, arguments, called = read([text])
    assert called == (bool(calls) and text.count("}") > 1)
    words.encode()
    if called:
        assert [json.loads(value) for value in arguments.values()] and not words
