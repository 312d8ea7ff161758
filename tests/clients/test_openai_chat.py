"""OpenAI's SDK: chat completions, whole and streamed, and all that can be asked of them."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import openai
import pytest

from shared.contracts import LOCAL_CHAT_MODEL as MODEL
from tests.clients.conftest import Server

ASK: list[Any] = [{"role": "user", "content": "Name five colours of the rainbow, one after the other."}]
GREEDY: dict[str, Any] = {"model": MODEL, "messages": ASK, "temperature": 0, "max_tokens": 12}


def test_an_answer_has_everything_that_a_client_reads(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**GREEDY)
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    assert answer.id.startswith("chatcmpl-") and answer.created > 1_600_000_000
    (choice,) = answer.choices
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length") and choice.logprobs is None
    assert answer.usage is not None and answer.usage.prompt_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_the_answer_ends_at_its_limit(client: openai.OpenAI, limit: str) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=ASK, temperature=0, **{limit: 3})
    assert answer.usage is not None and answer.usage.completion_tokens == 3
    assert answer.choices[0].finish_reason == "length"


def test_several_answers_are_counted_together(client: openai.OpenAI) -> None:
    one = client.chat.completions.create(**{**GREEDY, "max_tokens": 4})
    three = client.chat.completions.create(**{**GREEDY, "max_tokens": 4}, n=3)
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert one.usage is not None and three.usage is not None
    assert three.usage.prompt_tokens == one.usage.prompt_tokens
    assert three.usage.completion_tokens == 3 * one.usage.completion_tokens


@pytest.mark.models
def test_several_answers_differ_when_they_are_drawn(client: openai.OpenAI) -> None:
    asked = {**GREEDY, "temperature": 1.5, "max_tokens": 16}
    answer = client.chat.completions.create(**asked, n=3, seed=7)
    assert len({choice.message.content for choice in answer.choices}) > 1


def test_a_stop_string_ends_the_answer_and_is_not_in_it(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**GREEDY).choices[0].message.content or ""
    stop = whole.split()[2]
    cut = client.chat.completions.create(**GREEDY, stop=["\x00never\x00", stop]).choices[0]
    assert cut.finish_reason == "stop"
    assert (cut.message.content or "").strip() == whole.split(stop)[0].strip()


def test_the_same_seed_draws_the_same(client: openai.OpenAI) -> None:
    asked = {**GREEDY, "temperature": 1.2, "seed": 11, "top_p": 0.9}
    first, second = (client.chat.completions.create(**asked).choices[0].message.content for _ in range(2))
    assert first == second


def test_each_token_comes_with_its_probability_and_others(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=3).choices[0]
    assert choice.logprobs is not None and choice.logprobs.content
    tokens = choice.logprobs.content
    data = b"".join(bytes(token.bytes or []) for token in tokens)
    assert data.decode(errors="replace").strip().startswith((choice.message.content or "").strip())
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        best = [other.logprob for other in token.top_logprobs]
        assert best == sorted(best, reverse=True)
        # Greedy: what was taken is the likeliest.
        assert math.isclose(token.logprob, best[0], abs_tol=0.02)


def test_probabilities_without_others(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(**GREEDY, logprobs=True).choices[0]
    assert choice.logprobs is not None and choice.logprobs.content
    assert all(token.top_logprobs == [] for token in choice.logprobs.content)


@pytest.mark.models
def test_a_bias_forces_a_token_and_forbids_one(
    client: openai.OpenAI, tokenize: Callable[[str], list[int]]
) -> None:
    (forced,) = tokenize(" house")
    answer = client.chat.completions.create(**{**GREEDY, "max_tokens": 3}, logit_bias={str(forced): 100})
    assert (answer.choices[0].message.content or "").split() == ["house"] * 3

    plain = client.chat.completions.create(**GREEDY).choices[0].message.content or ""
    word = plain.split()[1]
    bias = {str(token): -100 for form in (f" {word}", word) for token in tokenize(form)[:1]}
    without = client.chat.completions.create(**GREEDY, logit_bias=bias).choices[0].message.content
    assert without != plain


@pytest.mark.models
def test_penalties_make_it_repeat_itself_less(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Repeat after me: la la la la la la la la la la la la"}],
        "temperature": 0,
        "max_tokens": 40,
    }

    def most_said(**penalty: float) -> int:
        text = client.chat.completions.create(**asked, **penalty).choices[0].message.content or ""
        return Counter(text.lower().split()).most_common(1)[0][1]

    plain = most_said()
    assert most_said(frequency_penalty=2.0) < plain
    assert most_said(presence_penalty=2.0) <= plain


def test_messages_of_all_kinds_are_read(client: openai.OpenAI) -> None:
    messages: list[Any] = [
        {"role": "developer", "content": "You are brief."},
        {"role": "user", "content": [{"type": "text", "text": "One "}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": "three"},
        {"role": "user", "content": "Four?", "name": "anna"},
    ]
    assert client.chat.completions.create(**{**GREEDY, "messages": messages}).choices[0].message.content


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**GREEDY)
    chunks = list(
        client.chat.completions.create(**GREEDY, stream=True, stream_options={"include_usage": True})
    )
    *answer, last = chunks
    assert answer[0].choices[0].delta.role == "assistant"
    assert {chunk.id for chunk in chunks} == {chunks[0].id} and last.object == "chat.completion.chunk"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
    assert text == whole.choices[0].message.content
    assert answer[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert all(chunk.usage is None for chunk in answer)
    assert last.choices == [] and last.usage is not None and whole.usage is not None
    assert last.usage.total_tokens == whole.usage.total_tokens


def test_a_stream_without_options_has_no_usage(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**GREEDY, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def test_several_answers_in_one_stream(client: openai.OpenAI) -> None:
    texts: dict[int, str] = {0: "", 1: ""}
    ended = set()
    for chunk in client.chat.completions.create(**GREEDY, n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                ended.add(choice.index)
    assert ended == {0, 1} and all(texts.values())


def test_a_stream_with_probabilities(client: openai.OpenAI) -> None:
    tokens = []
    for chunk in client.chat.completions.create(**GREEDY, stream=True, logprobs=True, top_logprobs=1):
        for choice in chunk.choices:
            tokens += (choice.logprobs and choice.logprobs.content) or []
    assert tokens and all(len(token.top_logprobs) == 1 for token in tokens)


def test_the_streaming_helper(client: openai.OpenAI) -> None:
    # The helper takes a cut answer for a mistake, so this one ends by itself.
    with client.chat.completions.stream(**GREEDY, stop=" ") as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content != ""


def test_async_calls_side_by_side(server: Server) -> None:
    async def ask() -> tuple[list[Any], str]:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key=server.key) as client:
            answers = await asyncio.gather(*(client.chat.completions.create(**GREEDY) for _ in range(4)))
            stream = await client.chat.completions.create(**GREEDY, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            return list(answers), text

    answers, text = asyncio.run(ask())
    assert text and all(answer.choices[0].message.content for answer in answers)


def test_a_stream_that_is_left_does_not_hold_up_the_next(client: openai.OpenAI) -> None:
    for _ in range(12):
        stream = client.chat.completions.create(**{**GREEDY, "max_tokens": 900}, stream=True)
        next(iter(stream))
        stream.close()
    assert client.chat.completions.create(**GREEDY).choices[0].message.content


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("modalities", ["audio"]),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("prediction", {"type": "content", "content": "x"}),
        ("web_search_options", {}),
        ("reasoning_effort", "high"),
        ("verbosity", "low"),
        ("top_k", 3),
        ("frobnicate", True),
    ],
)
def test_what_is_not_supported_is_refused_by_name(client: openai.OpenAI, param: str, value: object) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**GREEDY, extra_body={param: value})
    assert (caught.value.param or "").startswith(param) and param in caught.value.message
