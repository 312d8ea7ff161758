"""pydantic-ai: agents with tools and with structured output, over chat completions and over responses."""

import asyncio
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, RunContext, ToolOutput
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits

from shared.contracts import LOCAL_CHAT_MODEL
from tests.clients.conftest import Server

GREEDY: Any = {"temperature": 0.0, "max_tokens": 200}


class Report(BaseModel):
    """Reports the weather."""

    sky: Literal["sun", "rain"]
    cold: bool


@pytest.fixture(params=[OpenAIChatModel, OpenAIResponsesModel], ids=["chat", "responses"])
def model(request: pytest.FixtureRequest, server: Server) -> Any:
    provider = OpenAIProvider(base_url=server.base_url, api_key=server.key)
    return request.param(LOCAL_CHAT_MODEL, provider=provider)


def test_a_text(model: Any) -> None:
    found = Agent(model, instructions="Be brief.").run_sync(
        "One, two, three?", model_settings={"max_tokens": 16}
    )
    assert found.output and found.usage.output_tokens > 0


@pytest.mark.parametrize("form", [ToolOutput, NativeOutput])
def test_structured_output(model: Any, form: Any) -> None:
    agent = Agent(model, output_type=form(Report), model_settings=GREEDY, retries=0)
    found = agent.run_sync("It rains, and it is cold.", usage_limits=UsageLimits(request_limit=2))
    assert isinstance(found.output, Report)


class ToolFirst(AbstractCapability[None]):
    """Forces a tool at the first step and text at the next: a small model would not choose by itself."""

    def get_model_settings(self) -> Any:
        def choose(context: RunContext[None]) -> Any:
            return {"tool_choice": "required" if context.run_step <= 1 else "none"}

        return choose


def test_a_tool_is_called_and_answered(model: Any) -> None:
    asked = []
    agent = Agent(model, capabilities=[ToolFirst()], model_settings={**GREEDY, "max_tokens": 40})

    @agent.tool_plain
    def report_weather(town: Literal["Bonn", "Berlin"]) -> str:
        """Reports the weather of a town."""
        asked.append(town)
        return f"It rains in {town}."

    found = agent.run_sync("How is the weather in Bonn?", usage_limits=UsageLimits(request_limit=3))
    assert len(asked) == 1 and asked[0] in ("Bonn", "Berlin")
    assert found.output and found.usage.requests == 2


def test_a_stream(model: Any) -> None:
    async def ask() -> list[str]:
        async with Agent(model).run_stream("One, two, three?", model_settings={"max_tokens": 16}) as answer:
            return [text async for text in answer.stream_text(delta=True)]

    assert "".join(asyncio.run(ask()))
