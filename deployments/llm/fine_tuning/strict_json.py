"""Parses one JSON object of a training file, and says in words what is wrong with it."""

import json
from typing import Any, NoReturn


class BadJsonError(ValueError):
    """The message says what is wrong, without the text."""


def parse_object(line: bytes) -> dict[str, Any]:
    """The object. Refused: what is not UTF-8 or not JSON, duplicate keys, NaN and Infinity, numbers without end, and
    what is nested too deep."""
    try:
        parsed = json.loads(
            line.decode("utf-8"), object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise BadJsonError(f"not UTF-8 (byte {error.start + 1})") from error
    except json.JSONDecodeError as error:
        raise BadJsonError(f"not JSON ({error.msg} at character {error.pos + 1})") from error
    except RecursionError as error:
        raise BadJsonError("not JSON that can be read: it is nested too deep") from error
    except BadJsonError:
        raise
    except ValueError as error:
        raise BadJsonError("not JSON that can be read: a number has too many digits") from error
    if not isinstance(parsed, dict):
        raise BadJsonError("not a JSON object")
    return parsed


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in result if names.count(name) > 1)
        raise BadJsonError(f"the key {twice[:40]!r} is there twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise BadJsonError(f"not JSON ({name} is no number there)")
