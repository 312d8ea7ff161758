"""An answer of llama.cpp as its chunks come, without llama.cpp: chunks of our own stand for it."""

import json

import pytest

from deployments.llm.engines.llama_cpp.generation import LlamaGeneration
from deployments.llm.engines.ports import GenerationRequest, UnsupportedError


class Chunks:
    """A server that says the same whatever it is asked."""

    def __init__(self, text: str, reason: str) -> None:
        self._text, self._reason = text, reason

    def complete(self, body, take) -> None:
        usage = {"completion_tokens": 3}
        for text, reason in ((self._text, None), ("", self._reason)):
            choice = {"text": text, "finish_reason": reason, "logprobs": None}
            if take({"choices": [choice], "usage": usage}):
                return


def keep_to_json(text: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        raise UnsupportedError("no JSON", "response_format") from None


def read(text: str, reason: str, stop: tuple[str, ...] = ()) -> str:
    request = GenerationRequest("m", "…", stop=stop, json_schema={})
    generation = LlamaGeneration(request, [1], 8, "a grammar", keep_to_json)
    try:
        generation.run(Chunks(text, reason), [])
    except Exception as error:
        generation.fail(error)
    return "".join(piece.text for piece in generation)


def test_a_whole_answer_that_left_its_schema_is_an_error() -> None:
    """llama.cpp drops a grammar in mid-answer where a pattern needs too many states, and says nothing."""
    with pytest.raises(UnsupportedError, match="no JSON"):
        read('{"a": "x\n', "stop")


@pytest.mark.parametrize(
    ("text", "reason", "stop"),
    [('{"a": "x"}', "stop", ()), ('{"a": "x', "length", ()), ('{"a": "x.', "stop", (".",))],
)
def test_an_answer_that_keeps_to_it_or_was_cut_is_told_as_it_is(text, reason, stop) -> None:
    assert read(text, reason, stop) == text.removesuffix(".")
