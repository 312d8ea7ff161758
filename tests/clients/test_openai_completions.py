"""OpenAI's SDK: completions of raw text, with echo and probabilities as evaluations read them."""

import math
from typing import Any

import openai
import pytest

from shared.contracts import LOCAL_CHAT_MODEL as MODEL

GREEDY: dict[str, Any] = {
    "model": MODEL,
    "prompt": "One, two, three, four,",
    "temperature": 0,
    "max_tokens": 6,
}


def test_a_text_is_continued(client: openai.OpenAI) -> None:
    answer = client.completions.create(**GREEDY)
    assert (answer.object, answer.model) == ("text_completion", MODEL) and answer.id.startswith("cmpl-")
    assert answer.choices[0].text and answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None and answer.usage.completion_tokens <= 6


@pytest.mark.models
def test_no_chat_template_stands_before_it(client: openai.OpenAI) -> None:
    answer = client.completions.create(**GREEDY)
    assert "five" in answer.choices[0].text.lower()
    assert answer.usage is not None and answer.usage.prompt_tokens <= 12


def test_several_texts_are_continued_in_their_order(client: openai.OpenAI) -> None:
    prompts = ["One, two, three, four,", "Monday, Tuesday, Wednesday,"]
    alone = [client.completions.create(**{**GREEDY, "prompt": prompt}).choices[0].text for prompt in prompts]
    both = client.completions.create(**{**GREEDY, "prompt": prompts}, n=2)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in both.choices] == [alone[0], alone[0], alone[1], alone[1]]


def test_a_stream_says_the_same(client: openai.OpenAI) -> None:
    whole = client.completions.create(**GREEDY).choices[0]
    chunks = list(client.completions.create(**GREEDY, stream=True, stream_options={"include_usage": True}))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == whole.text
    assert chunks[-1].usage is not None and chunks[-1].choices == []
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == [
        whole.finish_reason
    ]


def test_tokens_come_with_probabilities_and_offsets(client: openai.OpenAI) -> None:
    choice = client.completions.create(**GREEDY, logprobs=2).choices[0]
    found = choice.logprobs
    assert (
        found is not None
        and found.tokens
        and found.token_logprobs
        and found.top_logprobs
        and found.text_offset
    )
    assert len(found.tokens) == len(found.token_logprobs) == len(found.top_logprobs) == len(found.text_offset)
    assert "".join(found.tokens).startswith(choice.text)
    assert all(number is not None and number <= 0 for number in found.token_logprobs)
    # Two of the fake's alternatives may have one name.
    assert all(1 <= len(others) <= 3 for others in found.top_logprobs)


def test_the_prompt_is_scored_by_echo(client: openai.OpenAI) -> None:
    """What evaluation does with a reference: no token is written, each one that is there gets its probability."""
    choice = client.completions.create(**{**GREEDY, "max_tokens": 0}, echo=True, logprobs=0).choices[0]
    assert choice.text == GREEDY["prompt"]
    found = choice.logprobs
    assert found is not None and found.tokens and found.token_logprobs and found.text_offset
    first, *others = found.token_logprobs
    assert first is None
    assert others and all(number is not None and math.isfinite(number) and number <= 0 for number in others)
    assert found.text_offset[0] == 0 and found.text_offset == sorted(found.text_offset)


@pytest.mark.models
def test_a_likely_text_scores_above_an_unlikely_one(client: openai.OpenAI) -> None:
    def score(text: str) -> float:
        choice = client.completions.create(
            model=MODEL, prompt=text, max_tokens=0, echo=True, logprobs=0
        ).choices[0]
        assert choice.logprobs is not None and choice.logprobs.token_logprobs
        numbers = [number for number in choice.logprobs.token_logprobs if number is not None]
        return sum(numbers) / len(numbers)

    assert score("The capital of France is Paris.") > score("The capital capital Paris green of is.")


def test_echo_stands_before_what_is_written(client: openai.OpenAI) -> None:
    plain = client.completions.create(**GREEDY).choices[0].text
    echoed = client.completions.create(**GREEDY, echo=True).choices[0].text
    assert echoed == GREEDY["prompt"] + plain


@pytest.mark.parametrize(("param", "value"), [("suffix", " end"), ("best_of", 3), ("frobnicate", 1)])
def test_what_is_not_supported_is_refused_by_name(client: openai.OpenAI, param: str, value: object) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**GREEDY, extra_body={param: value})
    assert caught.value.param == param
