"""Words what is wrong with a request's fields as OpenAI's clients expect it: a message and the parameter's path.

It knows no route and no HTTP.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Invalid(NamedTuple):
    """What is told of an invalid request."""

    message: str
    param: str | None = None
    code: str | None = None


def describe_invalid(errors: Sequence[Mapping[str, Any]], body: Any) -> Invalid:
    """The first of pydantic's errors; of those about one value that may be of several types, the one that goes
    deepest, as there the caller was nearest to what is wanted. Locations begin with "body", "query" or "path"."""
    paths = [_find_path(error, body) for error in errors]
    # A thing of an unknown type lacks what those of a known one have; its type is to be told.
    first = next((path for path in paths if path == [*paths[0][:-1], "type"]), paths[0])
    near = [index for index, path in enumerate(paths) if path[: len(first)] == first]
    chosen = max(near, key=lambda index: len(paths[index]))
    return _word(errors[chosen], ".".join(paths[chosen]))


def _word(error: Mapping[str, Any], param: str) -> Invalid:
    message = str(error["msg"]).removeprefix("Value error, ")
    match error["type"]:
        case "json_invalid":
            reason = error.get("ctx", {}).get("error", "")
            return Invalid(f"The body is not JSON: {reason} (at character {error['loc'][-1]}).")
        case "refused":
            return Invalid(message, param or None)
        case "extra_forbidden":
            return Invalid(f"Unrecognized request argument supplied: {param}", param)
        case "missing" if param:
            return Invalid(f"Missing required parameter: '{param}'.", param)
        case "missing":
            return Invalid("The request needs a JSON body.")
        case _ if param:
            return Invalid(f"Invalid '{param}': {message}.", param)
        case _ if isinstance(error.get("input"), bytes):
            return Invalid("Send the body as JSON, with the header `Content-Type: application/json`.")
        case _:
            return Invalid(f"The body must be a JSON object: {message}.")


def _find_path(error: Mapping[str, Any], body: Any) -> list[str]:
    """The location without the names of the types that were tried."""
    where, *parts = error["loc"]
    if error["type"] == "json_invalid":
        return []
    if where != "body" or not isinstance(body, (dict, list)):
        return [str(part) for part in parts]
    path, value = [], body
    for index, part in enumerate(parts):
        known = (
            part in value
            if isinstance(value, dict)
            else isinstance(value, list) and part in range(len(value))
        )
        if known:
            value = value[part]
        elif not (error["type"] == "missing" and index == len(parts) - 1):
            continue
        path.append(str(part))
    if param := error.get("ctx", {}).get("param"):
        path += str(param).split(".")
    return path
