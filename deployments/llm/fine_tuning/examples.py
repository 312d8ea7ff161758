"""Reads and checks training files: one chat example a line, in OpenAI's format.

It knows no tokenizer and no job.
"""

import json
from typing import Any, Final

_ROLES: Final = frozenset({"system", "developer", "user", "assistant"})


class BadExampleError(ValueError):
    """A training file that can't be used; the message names the line and says what is wrong."""


def read_examples(content: bytes) -> list[list[dict[str, str]]]:
    """The messages of every example; each ends with an assistant message. Blank lines don't count."""
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadExampleError(f"Line {line}: not UTF-8.") from error
    examples = [_read_line(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not examples:
        raise BadExampleError("The file holds no example: one JSON object with `messages` on each line.")
    return examples


def _read_line(number: int, line: str) -> list[dict[str, str]]:
    try:
        example = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadExampleError(f"Line {number}: not JSON ({error}).") from error
    messages = example.get("messages") if isinstance(example, dict) else None
    if not isinstance(messages, list) or not messages:
        raise BadExampleError(f"Line {number}: no list `messages`.")
    plain = [_read_message(number, index, message) for index, message in enumerate(messages)]
    if plain[-1]["role"] != "assistant":
        raise BadExampleError(f"Line {number}: the last message must be the assistant's.")
    if not plain[-1]["content"].strip():
        raise BadExampleError(f"Line {number}: the assistant's message is empty.")
    return plain


def _read_message(number: int, index: int, message: Any) -> dict[str, str]:
    if not isinstance(message, dict):
        raise BadExampleError(f"Line {number}: messages[{index}] is not an object.")
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        raise BadExampleError(
            f"Line {number}: messages[{index}].role must be one of {', '.join(sorted(_ROLES))}."
        )
    if not isinstance(content, str):
        raise BadExampleError(f"Line {number}: messages[{index}].content must be a string.")
    return {"role": "system" if role == "developer" else role, "content": content}
