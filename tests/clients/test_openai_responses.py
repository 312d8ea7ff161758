"""OpenAI's SDK: the Responses API as far as clients use it for text."""

import asyncio
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from shared.contracts import LOCAL_CHAT_MODEL as MODEL
from tests.clients.conftest import Server

GREEDY: dict[str, Any] = {
    "model": MODEL,
    "input": "Name five colours of the rainbow, one after the other.",
    "temperature": 0,
    "max_output_tokens": 16,
}
TOOL: dict[str, Any] = {
    "type": "function",
    "name": "report_weather",
    "description": "Reports the weather of a town.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"town": {"enum": ["Bonn", "Berlin"]}, "rain": {"type": "boolean"}},
        "required": ["town", "rain"],
        "additionalProperties": False,
    },
}


class Report(BaseModel):
    """A report whose every answer is short."""

    sky: Literal["sun", "rain"]
    cold: bool


def test_an_answer_has_everything_that_a_client_reads(client: openai.OpenAI) -> None:
    answer = client.responses.create(**GREEDY)
    assert (answer.object, answer.model) == ("response", MODEL) and answer.id.startswith("resp_")
    assert answer.output_text and answer.error is None
    assert answer.usage is not None and answer.usage.input_tokens > 0
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    if answer.status == "incomplete":
        assert (
            answer.incomplete_details is not None and answer.incomplete_details.reason == "max_output_tokens"
        )
    else:
        assert answer.status == "completed" and answer.incomplete_details is None


def test_an_answer_that_was_cut_says_so(client: openai.OpenAI) -> None:
    answer = client.responses.create(**{**GREEDY, "max_output_tokens": 2})
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None and answer.incomplete_details.reason == "max_output_tokens"


def test_instructions_and_messages_are_read(client: openai.OpenAI) -> None:
    messages: list[Any] = [
        {"role": "user", "content": [{"type": "input_text", "text": "One, two"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "three"}]},
        {"role": "user", "content": "Go on: four,"},
    ]
    plain = client.responses.create(**{**GREEDY, "input": messages})
    told = client.responses.create(
        **{**GREEDY, "input": messages}, instructions="You count, and say nothing else."
    )
    assert told.output_text and told.usage is not None and plain.usage is not None
    # A template may say something by itself where nobody instructs, so only that it changes something is sure.
    assert told.usage.input_tokens != plain.usage.input_tokens or told.output_text != plain.output_text


def test_a_stream_tells_its_events_in_order(client: openai.OpenAI) -> None:
    events = list(client.responses.create(**GREEDY, stream=True))
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete")
    order = [
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        kinds[-1],
    ]
    places = [kinds.index(kind) for kind in order]
    assert places == sorted(places)
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == client.responses.create(**GREEDY).output_text


def test_the_streaming_helper(client: openai.OpenAI) -> None:
    # The helper waits for an answer that was not cut.
    with client.responses.stream(**{**GREEDY, "max_output_tokens": 160}, text_format=Report) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert final.output_text == text != ""


def test_a_schema_is_kept(client: openai.OpenAI) -> None:
    answer = client.responses.parse(**{**GREEDY, "max_output_tokens": 160}, text_format=Report)
    assert isinstance(answer.output_parsed, Report)


def test_a_tool_is_called_and_what_it_said_is_read(client: openai.OpenAI) -> None:
    asked = {
        **GREEDY,
        "input": [{"role": "user", "content": "How is the weather?"}],
        "max_output_tokens": 160,
    }
    answer = client.responses.create(**asked, tools=[TOOL], tool_choice="required", parallel_tool_calls=False)
    (call,) = [item for item in answer.output if item.type == "function_call"]
    assert call.name == "report_weather" and call.call_id
    said = {"type": "function_call_output", "call_id": call.call_id, "output": "It was reported."}
    asked["input"] = [*asked["input"], call.to_dict(), said]
    after = client.responses.create(**asked, tools=[TOOL], tool_choice="none")
    assert after.output_text and not [item for item in after.output if item.type == "function_call"]


def test_async(server: Server) -> None:
    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key=server.key) as client:
            return (await client.responses.create(**GREEDY)).output_text

    assert asyncio.run(ask())


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("background", True),
        ("conversation", "conv_1"),
        ("reasoning", {"effort": "high"}),
        ("tools", [{"type": "web_search"}]),
        ("frobnicate", 1),
    ],
)
def test_what_is_not_supported_is_refused_by_name(client: openai.OpenAI, param: str, value: object) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**GREEDY, extra_body={param: value})
    assert (caught.value.param or "").split(".")[0].split("[")[0] == param


def test_a_response_that_is_not_kept_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_0000")
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as caught:
        client.responses.create(**GREEDY, previous_response_id="resp_0000")
    assert caught.value.param == "previous_response_id"
