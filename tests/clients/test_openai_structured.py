"""OpenAI's SDK: answers that keep to a JSON schema, and calls of tools."""

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field

from shared.contracts import LOCAL_CHAT_MODEL as MODEL

ASK: list[Any] = [{"role": "user", "content": "It rains in Bonn, and it is cold. Report the weather."}]
GREEDY: dict[str, Any] = {"model": MODEL, "messages": ASK, "temperature": 0, "max_tokens": 160}


class Report(BaseModel):
    """A report whose every answer is short."""

    sky: Literal["sun", "rain", "snow"]
    cold: bool
    town: str = Field(max_length=12)


class Day(BaseModel):
    """A report inside another."""

    morning: Report
    notes: list[Literal["wind", "fog"]] = Field(max_length=2)


class ReportWeather(BaseModel):
    """Reports the weather of a town."""

    town: Literal["Bonn", "Köln"]
    rain: bool


class TellTime(BaseModel):
    """Tells the time."""

    zone: Literal["utc", "local"]


TOOLS: list[Any] = [openai.pydantic_function_tool(ReportWeather), openai.pydantic_function_tool(TellTime)]


def test_any_json_object(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": 'Answer in JSON, only this: {"sky": "rain"}'}]
    asked = {**GREEDY, "messages": messages, "max_tokens": 400}
    choice = client.chat.completions.create(**asked, response_format={"type": "json_object"}).choices[0]
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content or ""), dict)
    else:  # a small model may not find the end; what there is of it is JSON
        assert (choice.message.content or "").lstrip().startswith("{")


def test_a_schema_is_kept(client: openai.OpenAI) -> None:
    message = client.chat.completions.parse(**GREEDY, response_format=Report).choices[0].message
    assert isinstance(message.parsed, Report)
    assert message.refusal is None


@pytest.mark.models
def test_a_schema_with_parts_is_kept_however_it_is_drawn(client: openai.OpenAI) -> None:
    asked = {**GREEDY, "temperature": 1.5, "seed": 3}
    answer = client.chat.completions.parse(**asked, n=2, response_format=Day)
    assert all(isinstance(choice.message.parsed, Day) for choice in answer.choices)


def test_a_schema_is_kept_in_a_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(**GREEDY, response_format=Report) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Report)


def test_a_named_tool_is_called(client: openai.OpenAI) -> None:
    choice = client.chat.completions.parse(
        **GREEDY, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "ReportWeather"}}
    ).choices[0]
    assert choice.finish_reason in ("stop", "tool_calls") and not choice.message.content
    (call,) = choice.message.tool_calls or []
    assert call.id and call.type == "function" and call.function.name == "ReportWeather"
    assert isinstance(call.function.parsed_arguments, ReportWeather)


def test_some_tool_is_called_where_one_is_required(client: openai.OpenAI) -> None:
    choice = client.chat.completions.parse(**GREEDY, tools=TOOLS, tool_choice="required").choices[0]
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls or []
    assert calls and all(
        isinstance(call.function.parsed_arguments, ReportWeather | TellTime) for call in calls
    )


def test_a_tool_call_is_streamed(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(**GREEDY, tools=TOOLS, tool_choice="required") as stream:
        arguments = [
            event.arguments_delta for event in stream if event.type == "tool_calls.function.arguments.delta"
        ]
        final = stream.get_final_completion().choices[0]
    (call,) = final.message.tool_calls or []
    assert final.finish_reason == "tool_calls"
    assert "".join(arguments) == call.function.arguments
    assert isinstance(call.function.parsed_arguments, ReportWeather | TellTime)


def test_no_tool_is_called_where_none_may_be(client: openai.OpenAI) -> None:
    message = client.chat.completions.create(**GREEDY, tools=TOOLS, tool_choice="none").choices[0].message
    assert message.content and not message.tool_calls


def test_auto_gives_a_call_or_an_answer(client: openai.OpenAI) -> None:
    choice = client.chat.completions.parse(**GREEDY, tools=TOOLS).choices[0]
    assert bool(choice.message.tool_calls) == (choice.finish_reason == "tool_calls")
    assert choice.message.tool_calls or choice.message.content


def test_what_a_tool_said_is_read(client: openai.OpenAI) -> None:
    call = {"name": "ReportWeather", "arguments": '{"town": "Bonn", "rain": true}'}
    messages: list[Any] = [
        *ASK,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "It was reported."},
    ]
    asked = {**GREEDY, "messages": messages, "max_tokens": 16}
    with_tools = client.chat.completions.create(**asked, tools=TOOLS, tool_choice="none")
    assert with_tools.choices[0].message.content
    plain = client.chat.completions.create(**{**asked, "messages": ASK}, tools=TOOLS, tool_choice="none")
    assert with_tools.usage is not None and plain.usage is not None
    assert with_tools.usage.prompt_tokens > plain.usage.prompt_tokens


def test_a_tool_that_is_not_there_cannot_be_chosen(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            **GREEDY, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "nope"}}
        )
    assert "tool_choice" in (caught.value.param or "")


def test_a_choice_without_tools_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**GREEDY, tool_choice="required")
    assert "tool_choice" in (caught.value.param or "")
