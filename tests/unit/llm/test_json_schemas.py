"""Schemas that an answer can be held to, and those that are refused in words."""

import json
from itertools import pairwise

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from deployments.llm.api.json_schemas import MAX_BYTES, MAX_DEPTH, MAX_NODES, prepare_schema


def nest(levels):
    schema = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def refer_in_pairs(levels):
    """Each definition refers twice to the next: 2^levels parts once they are resolved."""
    names = [f"d{level}" for level in range(levels)]
    definitions = {
        name: {
            "type": "object",
            "properties": {"a": {"$ref": f"#/$defs/{after}"}, "b": {"$ref": f"#/$defs/{after}"}},
        }
        for name, after in pairwise(names)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, names[-1]: {"type": "string"}}}


def test_references_are_resolved_and_annotations_left_out():
    class Part(BaseModel):
        name: str
        size: int | None = None

    class Whole(BaseModel):
        parts: list[Part]

    prepared = prepare_schema(Whole.model_json_schema())
    assert "$" not in json.dumps(prepared) and "title" not in json.dumps(prepared)
    part = prepared["properties"]["parts"]["items"]
    assert part["required"] == ["name"]
    assert part["properties"]["size"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}


def test_a_property_may_have_the_name_of_a_keyword():
    schema = {"type": "object", "properties": {"title": {"type": "string"}, "not": {"type": "null"}}}
    assert prepare_schema(schema) == {**schema, "additionalProperties": False}


def test_objects_are_closed_where_that_changes_nothing_else():
    part, open_part = {"properties": {"a": {}}}, {"properties": {"a": {}}, "additionalProperties": True}
    closed = {**part, "additionalProperties": False}
    for schema, prepared in (
        (part, closed),
        (open_part, open_part),
        ({"type": "object"}, {"type": "object"}),
        ({"anyOf": [part, part]}, {"anyOf": [closed, closed]}),
        ({"items": part}, {"items": closed}),
        ({"allOf": [part, part]}, {"allOf": [part, part]}),
        ({**part, "anyOf": [part]}, {**part, "anyOf": [part]}),
        ({"allOf": [{"anyOf": [part]}]}, {"allOf": [{"anyOf": [part]}]}),
        ({"allOf": [{"items": part}]}, {"allOf": [{"items": closed}]}),
    ):
        assert prepare_schema(schema) == prepared


@pytest.mark.parametrize("schema", [{}, nest(MAX_DEPTH), {"enum": [1, "a", None]}, {"const": {"a": 1}}])
def test_what_can_be_held_to_stays_as_it_is(schema):
    assert prepare_schema(schema) == schema


@pytest.mark.parametrize(
    ("schema", "param", "words"),
    [
        (nest(MAX_DEPTH + 1), "items", "nested deeper"),
        (nest(100_000), "", "nested deeper"),
        (refer_in_pairs(12), "", f"more than {MAX_NODES} parts"),
        ({"enum": ["x" * MAX_BYTES]}, "", "longer than"),
        ({"$ref": "#"}, "", "recursion"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "", "recursion"),
        (
            {
                "type": "object",
                "properties": {"next": {"$ref": "#/$defs/n"}},
                "$defs": {"n": {"items": {"$ref": "#"}}},
            },
            "properties.next.items.properties.next",
            "recursion",
        ),
        ({"$ref": "http://example.org/schema"}, "", "same schema"),
        ({"$ref": "#/$defs/none"}, "", "is not in the schema"),
        ({"$ref": 3}, "", "same schema"),
        ({"not": {}}, "not", "can't be held|can be held"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems", "can be held"),
        ({"type": "text"}, "type", "must be of"),
        ({"type": []}, "type", "must be of"),
        ({"type": {"a": 1}}, "type", "must be of"),
        ({"enum": []}, "enum", "Nothing satisfies"),
        ({"anyOf": []}, "anyOf", "Nothing satisfies"),
        ({"anyOf": [False]}, "", "Nothing satisfies"),
        ({"anyOf": {}}, "anyOf", "list"),
        ({"allOf": [True, False]}, "", "Nothing satisfies"),
        ({"type": "string", "minLength": 5, "maxLength": 4}, "minLength", "Nothing satisfies"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "minimum", "Nothing satisfies"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "", "Nothing satisfies"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "", "Nothing satisfies"),
        ({"type": "object", "properties": []}, "properties", "object"),
        ({"type": "object", "properties": {"a": 3}}, "properties.a", "object"),
        ({"type": "object", "required": "a"}, "required", "list"),
        ({"type": "object", "required": [1]}, "required", "names"),
        ({"items": [1]}, "items", "object"),
        ({"type": "string", "maxLength": 10**9}, "maxLength", "whole number"),
        ({"type": "string", "minLength": -1}, "minLength", "whole number"),
        ({"type": "string", "pattern": "a{1000000}"}, "pattern", "repeated"),
        ({"type": "string", "pattern": "(a{99}b){99}"}, "pattern", "repeated"),
        ({"type": "string", "pattern": "a{99999999999999999999}"}, "pattern", "repeated"),
        ({"type": "integer", "multipleOf": 0}, "multipleOf", "above zero"),
        ({"type": "string", "pattern": "("}, "pattern", "regular expression"),
        ({"type": "string", "pattern": 3}, "pattern", "text"),
        ({"type": "string", "format": 3}, "format", "text"),
        ({"minimum": "1"}, "minimum", "number"),
        ({"const": float("nan")}, "", "finite"),
        ({"const": "\ud800"}, "", "surrogate"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else None,
)
def test_what_cannot_be_held_to_is_refused_in_words(schema, param, words):
    with pytest.raises(PydanticCustomError, match=words) as refusal:
        prepare_schema(schema)
    assert refusal.value.context["param"].startswith(param)


def test_where_it_may_be_left_out_it_is():
    schema = {"type": "array", "uniqueItems": True, "items": {"type": "integer", "not": {"const": 2}}}
    assert prepare_schema(schema, lenient=True) == {"type": "array", "items": {"type": "integer"}}
    with pytest.raises(PydanticCustomError, match="recursion"):
        prepare_schema({"$ref": "#"}, lenient=True)
