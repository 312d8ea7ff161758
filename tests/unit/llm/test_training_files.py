"""Training files as people make them: each problem is named with its line."""

import json
import tracemalloc

import pytest

from deployments.llm.fine_tuning.examples import (
    BadExampleError,
    Preference,
    read_examples,
    read_preferences,
    scan_lines,
)


def chat(*contents, **fields):
    roles = ("user", "assistant") * len(contents)
    messages = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]
    return {"messages": messages, **fields}


def preference(**fields):
    asked = {"role": "user", "content": "q"}
    better, worse = ({"role": "assistant", "content": text} for text in "ab")
    whole = {
        "input": {"messages": [asked]},
        "preferred_output": [better],
        "non_preferred_output": [worse],
    }
    return {**whole, **fields}


def message(role="assistant", content="b", **fields):
    return {"messages": [{"role": "user", "content": "a"}, {"role": role, "content": content, **fields}]}


def lines(*examples):
    return b"\n".join(
        example if isinstance(example, bytes) else json.dumps(example).encode() for example in examples
    )


GOOD = json.dumps(chat("a", "b")).encode()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"\xff{}", "not UTF-8 .byte 1."),
        (GOOD.decode().encode("utf-16"), "not UTF-8"),
        (b"{oops", "not JSON .Expecting property name"),
        (b'{"messages": "a\0b"}', "Invalid control character"),
        (b'"text"', "not a JSON object"),
        (b'{"messages": [], "messages": []}', "the key 'messages' is there twice"),
        (b'{"messages": [{"role": "user", "role": "user"}]}', "the key 'role' is there twice"),
        (b'{"messages": NaN}', "NaN is no number"),
        (b'{"messages": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"messages": 1e999}', "no list `messages`"),
        (b'{"messages": ' + b"[" * 200_000, "nested too deep"),
        (b"\xef\xbb\xbf" + GOOD, "not JSON"),  # in the middle of the file
        (GOOD + GOOD, "Extra data"),
        (message(content="a\0b"), "has a NUL"),
        (message(content="\ud800"), "half a character"),
        (message("tool"), "is of a tool"),
        (message(content=None, tool_calls=[{"id": "1"}]), "is of a tool"),
        (message(weight=0), "weight is not supported"),
        (message(name="Ada"), "name is not supported"),
        (message([]), "role must be one of"),
        (chat("a", "b", tools=[{"type": "function"}]), "tools is not supported"),
        (chat("a", "b", topic="x"), "topic is not supported"),
        (preference(), "it holds a preference, for the method dpo, but line 1 is for the method supervised"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line(bad, reason):
    with pytest.raises(BadExampleError, match=rf"Line 3: .*{reason}"):
        list(scan_lines([GOOD, b"", lines(bad), GOOD]))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (preference(input=None), "`input` must be an object"),
        (preference(input={"messages": []}), "no list `input.messages`"),
        (preference(input={"messages": chat("a", "b")["messages"]}), "must not be the assistant's"),
        (preference(preferred_output=None), "no list `preferred_output`"),
        (preference(preferred_output=chat("a", "b")["messages"]), "preferred_output must be one message"),
        (preference(non_preferred_output=[{"role": "assistant", "content": " "}]), "that is not empty"),
        (preference(non_preferred_output=preference()["preferred_output"]), "are the same"),
        (preference(input={"messages": [{"role": "user", "content": "a"}], "tools": [1]}), "input.tools is not"),
        (preference(weight=1), "weight is not supported"),
        (chat("a", "b"), "it holds a chat, for the method supervised, but line 1 is for the method dpo"),
    ],
)  # fmt: skip
def test_a_preference_that_cannot_be_used_is_named_with_its_line(bad, reason):
    with pytest.raises(BadExampleError, match=f"Line 2: .*{reason}"):
        list(scan_lines([lines(preference()), lines(bad)]))


def test_a_file_of_windows_with_a_byte_order_mark_is_read():
    content = b"\xef\xbb\xbf" + GOOD + b"\r\n\r\n" + GOOD + b"\r\n"
    assert read_examples(content) == [chat("a", "b")["messages"]] * 2


def test_preferences_are_read_with_what_openais_samples_carry():
    asked = [{"role": "developer", "content": "q"}]
    example = preference(input={"messages": asked, "tools": [], "parallel_tool_calls": True})
    (found,) = read_preferences(lines(example))
    answers = [[{"role": "assistant", "content": text}] for text in "ab"]
    assert found == Preference([{"role": "system", "content": "q"}], *answers)


@pytest.mark.parametrize(
    ("read", "content"), [(read_examples, preference()), (read_preferences, chat("a", "b"))]
)
def test_a_file_for_another_method_is_refused(read, content):
    with pytest.raises(BadExampleError, match=r"Line 1: it holds .*, but the job's method is"):
        read(lines(content))


@pytest.mark.parametrize("content", [b"", b"\n\r\n", b"\xef\xbb\xbf"])
def test_a_file_without_an_example_is_refused(content):
    with pytest.raises(BadExampleError, match="holds no example"):
        read_examples(content)


def test_fifty_thousand_lines_take_the_memory_of_one():
    line = lines(chat("word " * 100, "word " * 100))
    tracemalloc.start()
    try:
        count = sum(1 for _ in scan_lines(line for _ in range(5_000)))
        assert tracemalloc.get_traced_memory()[1] < 100 * len(line)
    finally:
        tracemalloc.stop()
    assert count == 5_000
