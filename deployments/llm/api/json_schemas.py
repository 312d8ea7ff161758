"""Makes a caller's JSON schema fit to hold an answer to: references are resolved, what can't be held to is refused.

It knows no grammar: an engine may still refuse what is in here.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from deployments.llm.routes.strict_body import refuse

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 32
MAX_NODES: Final = 2_000
MAX_COUNT: Final = 2_000
"""Of characters or items that a schema may name: grammars write repetitions out."""

_HELD: Final = frozenset(
    (
        *("type", "properties", "required", "additionalProperties", "items", "prefixItems", "enum", "const"),
        *("anyOf", "oneOf", "allOf", "minItems", "maxItems", "minLength", "maxLength", "pattern", "format"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    )
)
_ANNOTATIONS: Final = frozenset(
    (
        *("title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly"),
        *("discriminator", "$schema", "$id", "$comment", "$defs", "definitions"),
        *("contentMediaType", "contentEncoding"),
    )
)
_TYPES: Final = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
_COMBINED: Final = ("anyOf", "oneOf", "allOf")
_COUNTS: Final = ("minItems", "maxItems", "minLength", "maxLength")
_RANGES: Final = (
    ("minItems", "maxItems"),
    ("minLength", "maxLength"),
    ("minimum", "maximum"),
)
_REPETITION: Final = re.compile(r"\{(\d*),?(\d*)\}")


def prepare_schema(schema: Mapping[str, Any], *, lenient: bool = False, at: str = "") -> dict[str, Any]:
    """The schema without references and annotations. With `lenient` what no grammar can hold is left out; else it is
    refused, as are recursion, contradictions and more than MAX_DEPTH, MAX_NODES or MAX_BYTES. Errors name the place in
    it, below `at`.

    An object with properties gets no others where the schema leaves that open: a small model would not end.
    """
    try:
        text = json.dumps(schema, allow_nan=False)
        text.encode()
        json.dumps(schema, ensure_ascii=False).encode()
    except RecursionError:
        raise refuse(f"The schema is nested deeper than {MAX_DEPTH} levels.", at) from None
    except (ValueError, UnicodeError):
        raise refuse("The schema has a number that is not finite, or half a surrogate pair.", at) from None
    if len(text) > MAX_BYTES:
        raise refuse(f"The schema is longer than {MAX_BYTES} bytes.", at)
    prepared = _Preparation(schema, lenient).prepare(schema, at, 0, ())
    if prepared is False:
        raise refuse("Nothing satisfies the schema.", at)
    return {} if prepared is True else prepared


class _Preparation:
    def __init__(self, root: Mapping[str, Any], lenient: bool) -> None:
        self._root, self._lenient, self._nodes = root, lenient, 0

    def prepare(
        self, schema: Any, at: str, depth: int, open_refs: tuple[str, ...], closes: bool = True
    ) -> Any:
        self._nodes += 1
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise refuse("A schema must be an object.", at)
        if depth > MAX_DEPTH:
            raise refuse(f"The schema is nested deeper than {MAX_DEPTH} levels.", at)
        if self._nodes > MAX_NODES:
            raise refuse(f"The schema has more than {MAX_NODES} parts once its references are resolved.", at)
        if "$ref" in schema:
            reference = schema["$ref"]
            if reference in open_refs:
                raise refuse(
                    f"The schema refers to itself by '{reference}': recursion is not supported here.", at
                )
            target = self._resolve(reference, at)
            rest = {name: value for name, value in schema.items() if name != "$ref"}
            merged = {**target, **rest} if isinstance(target, dict) else target
            return self.prepare(merged, at, depth + 1, (*open_refs, reference), closes)
        kept = {name: value for name, value in schema.items() if self._is_held(name, value, _join(at, name))}
        _check(kept, at)
        combined = [name for name in _COMBINED if name in kept]
        if closes and "properties" in kept and not combined:
            kept.setdefault("additionalProperties", False)
        # What is closed on its own can't be combined with more.
        closes = closes and combined in (["anyOf"], ["oneOf"]) and "properties" not in kept
        for name, value in kept.items():
            inner = closes if name in _COMBINED else True
            kept[name] = self._go_down(name, value, _join(at, name), depth, open_refs, inner)
        return self._settle(kept, at)

    def _go_down(
        self, name: str, value: Any, at: str, depth: int, open_refs: tuple[str, ...], closes: bool
    ) -> Any:
        if name == "properties":
            return {
                key: self.prepare(part, _join(at, key), depth + 1, open_refs) for key, part in value.items()
            }
        if name in ("anyOf", "oneOf", "allOf", "prefixItems"):
            parts = [
                self.prepare(part, _join(at, i), depth + 1, open_refs, closes) for i, part in enumerate(value)
            ]
            return (
                parts if name in ("allOf", "prefixItems") else [part for part in parts if part is not False]
            )
        if name in ("items", "additionalProperties"):
            return self.prepare(value, at, depth + 1, open_refs)
        return value

    def _settle(self, schema: dict[str, Any], at: str) -> Any:
        """False where nothing satisfies it."""
        if any(schema.get(name) == [] for name in ("anyOf", "oneOf")) or False in schema.get("allOf", ()):
            return False
        properties = schema.get("properties", {})
        needed = schema.get("required", ())
        for name in needed:
            absent = name not in properties and schema.get("additionalProperties", True) is False
            if absent or properties.get(name) is False:
                raise refuse(f"Nothing satisfies the schema: '{name}' is required and not allowed.", at)
        return schema

    def _is_held(self, name: str, value: Any, at: str) -> bool:
        if name in _HELD:
            return True
        if name in _ANNOTATIONS or name.startswith("x-") or (name == "uniqueItems" and value is False):
            return False
        if self._lenient:
            return False
        raise refuse(f"No answer can be held to '{name}' here: leave it out of the schema.", at)

    def _resolve(self, reference: Any, at: str) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise refuse("A '$ref' must point into the same schema.", at)
        target: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            if part and not (isinstance(target, dict) and part in target):
                raise refuse(f"'{reference}' is not in the schema.", at)
            target = target[part] if part else target
        return target


def _check(schema: Mapping[str, Any], at: str) -> None:
    """Raises for values of the wrong kind, and for those that contradict each other."""
    kinds = schema.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if not all(isinstance(kind, str) and kind in _TYPES for kind in kinds) or schema.get("type") == []:
        raise refuse(f"A 'type' must be of {', '.join(sorted(_TYPES))}.", _join(at, "type"))
    if not isinstance(schema.get("properties", {}), dict):
        raise refuse("Must be an object.", _join(at, "properties"))
    for name in ("anyOf", "oneOf", "allOf", "prefixItems", "required", "enum"):
        if name in schema and not isinstance(schema[name], list):
            raise refuse("Must be a list.", _join(at, name))
    for name in ("anyOf", "oneOf", "allOf", "enum"):
        if schema.get(name) == []:
            raise refuse("Nothing satisfies the schema: the list is empty.", _join(at, name))
    if not all(isinstance(name, str) for name in schema.get("required", ())):
        raise refuse("Must be a list of names.", _join(at, "required"))
    for name in _COUNTS:
        count = schema.get(name, 0)
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_COUNT:
            raise refuse(f"Must be a whole number from 0 to {MAX_COUNT}.", _join(at, name))
    for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"):
        if isinstance(schema.get(name, 0), bool) or not isinstance(schema.get(name, 0), int | float):
            raise refuse("Must be a number.", _join(at, name))
    if schema.get("multipleOf", 1) <= 0:
        raise refuse("Must be above zero.", _join(at, "multipleOf"))
    for low, high in _RANGES:
        if low in schema and high in schema and schema[low] > schema[high]:
            raise refuse(f"Nothing satisfies the schema: '{low}' is above '{high}'.", _join(at, low))
    _check_pattern(schema.get("pattern", ""), _join(at, "pattern"))
    if not isinstance(schema.get("format", ""), str):
        raise refuse("Must be a text.", _join(at, "format"))


def _check_pattern(pattern: Any, at: str) -> None:
    if not isinstance(pattern, str) or len(pattern) > 500:
        raise refuse("Must be a text of at most 500 characters.", at)
    # Repetitions within repetitions multiply.
    counts = [max(int(count or 0) for count in match.groups()) for match in _REPETITION.finditer(pattern)]
    if math.prod(max(count, 1) for count in counts) > MAX_COUNT:
        raise refuse(f"Nothing may be repeated more than {MAX_COUNT} times, one within the other.", at)
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise refuse(f"Is no regular expression: {error}.", at) from None


def _join(at: str, name: object) -> str:
    return f"{at}.{name}" if at else str(name)
