"""Reads and checks training files in OpenAI's formats: a chat, or a prompt with a better and a worse answer, a line.

It knows no tokenizer and no job.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from deployments.llm.fine_tuning.job import Method
from deployments.llm.fine_tuning.strict_json import BadJsonError, parse_object

Conversation = list[dict[str, str]]
_ROLES: Final = frozenset({"system", "developer", "user", "assistant"})
_BOM: Final = b"\xef\xbb\xbf"
_HOLDS: Final[dict[Method, str]] = {"supervised": "a chat", "dpo": "a preference"}
_NEEDS: Final[dict[Method | None, str]] = {
    None: "`messages`",
    "supervised": "`messages`",
    "dpo": "`input`, `preferred_output` and `non_preferred_output`",
}
# What OpenAI's own samples carry beside the messages; empty, it changes nothing.
_HARMLESS: Final = frozenset({"tools", "functions"})
_PARALLEL: Final = "parallel_tool_calls"


class BadExampleError(ValueError):
    """A training file that can't be used; the message names the line and says what is wrong."""


class Preference(NamedTuple):
    """Two answers to a prompt, each one message of the assistant's."""

    prompt: Conversation
    preferred: Conversation
    worse: Conversation


class Line(NamedTuple):
    """A line that holds an example: its number, its bytes, and its conversation, or a preference."""

    number: int
    content: bytes
    example: Conversation | Preference

    @property
    def kind(self) -> Method:
        """The method that it is for."""
        return "dpo" if isinstance(self.example, Preference) else "supervised"

    @property
    def conversations(self) -> list[Conversation]:
        """Each as a model is trained on it."""
        if isinstance(self.example, Preference):
            return [self.example.prompt + answer for answer in self.example[1:]]
        return [self.example]


def read_examples(content: bytes) -> list[Conversation]:
    """The messages of every chat example; each ends with an assistant message. Raises BadExampleError."""
    return [line.example for line in scan_lines(content.split(b"\n"), "supervised")]  # type: ignore[misc]


def read_preferences(content: bytes) -> list[Preference]:
    """Every preference. Raises BadExampleError."""
    return [line.example for line in scan_lines(content.split(b"\n"), "dpo")]  # type: ignore[misc]


def scan_lines(lines: Iterable[bytes], method: Method | None = None) -> Iterator[Line]:
    """The examples of a file, one at a time: all for the method, or where none is named all as the first one is.

    Blank lines don't count. Raises BadExampleError at the first line that can't be used, and at the end of a file
    without any.
    """
    wanted, reason = method, f"the job's method is {method}"
    count = 0
    for number, content in enumerate(lines, 1):
        text = content.removeprefix(_BOM) if number == 1 else content
        if not text.strip():
            continue
        try:
            line = Line(number, text, _read_example(parse_object(text)))
        except BadJsonError as error:
            raise BadExampleError(f"Line {number}: {error}.") from error
        if wanted is None:
            wanted, reason = line.kind, f"line {number} is for the method {line.kind}"
        if line.kind != wanted:
            raise BadExampleError(
                f"Line {number}: it holds {_HOLDS[line.kind]}, for the method {line.kind}, but {reason}."
            )
        count += 1
        yield line
    if not count:
        raise BadExampleError(
            f"The file holds no example: one JSON object with {_NEEDS[wanted]} on each line."
        )


def _read_example(example: dict[str, Any]) -> Conversation | Preference:
    if "input" in example or "preferred_output" in example:
        return _read_preference(example)
    messages = _read_messages("messages", example.pop("messages", None))
    _refuse_others("", example)
    if messages[-1]["role"] != "assistant":
        raise BadJsonError("the last message must be the assistant's")
    if not messages[-1]["content"].strip():
        raise BadJsonError("the assistant's message is empty")
    return messages


def _read_preference(example: dict[str, Any]) -> Preference:
    given = example.pop("input", None)
    if not isinstance(given, dict):
        raise BadJsonError("`input` must be an object with `messages`")
    prompt = _read_messages("input.messages", given.pop("messages", None))
    _refuse_others("input.", given)
    better, worse = (
        _read_answer(name, example.pop(name, None)) for name in ("preferred_output", "non_preferred_output")
    )
    _refuse_others("", example)
    if prompt[-1]["role"] == "assistant":
        raise BadJsonError("the last message of input.messages must not be the assistant's")
    if better == worse:
        raise BadJsonError("preferred_output and non_preferred_output are the same")
    return Preference(prompt, better, worse)


def _read_answer(name: str, value: Any) -> Conversation:
    answer = _read_messages(name, value)
    if len(answer) != 1 or answer[0]["role"] != "assistant" or not answer[0]["content"].strip():
        raise BadJsonError(f"{name} must be one message of the assistant's that is not empty")
    return answer


def _read_messages(name: str, value: Any) -> Conversation:
    if not isinstance(value, list) or not value:
        raise BadJsonError(f"no list `{name}`")
    return [_read_message(f"{name}[{index}]", message) for index, message in enumerate(value)]


def _read_message(place: str, message: Any) -> dict[str, str]:
    if not isinstance(message, dict):
        raise BadJsonError(f"{place} is not an object")
    role, content = message.get("role"), message.get("content")
    if role in ("tool", "function") or message.get("tool_calls") or message.get("function_call"):
        raise BadJsonError(f"{place} is of a tool: the model can't be trained on tools here")
    if not isinstance(role, str) or role not in _ROLES:
        raise BadJsonError(f"{place}.role must be one of {', '.join(sorted(_ROLES))}")
    if not isinstance(content, str):
        raise BadJsonError(f"{place}.content must be a string")
    if message.get("weight", 1) != 1:
        raise BadJsonError(f"{place}.weight is not supported: every answer of the assistant's counts alike")
    if others := sorted(set(message) - {"role", "content", "weight"}):
        raise BadJsonError(f"{place}.{others[0][:40]} is not supported")
    if "\0" in content:
        raise BadJsonError(f"{place}.content has a NUL character")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise BadJsonError(f"{place}.content has half a character (a lone surrogate)") from error
    return {"role": "system" if role == "developer" else role, "content": content}


def _refuse_others(place: str, rest: dict[str, Any]) -> None:
    for name, value in rest.items():
        if name == _PARALLEL or (name in _HARMLESS and not value):
            continue
        remedy = ": the model can't be trained on tools here" if name in _HARMLESS else ""
        raise BadJsonError(f"{place}{name[:40]} is not supported{remedy}")
