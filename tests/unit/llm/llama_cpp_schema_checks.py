"""How llama.cpp holds answers to JSON schemas; `llama_cpp_checks` runs these."""

import json
from pathlib import Path
from unittest.mock import patch

from deployments.llm.engines.llama_cpp.answer_check import AnswerCheck
from deployments.llm.engines.llama_cpp.grammar_check import GrammarCheck
from deployments.llm.engines.llama_cpp.schema import write_grammar
from deployments.llm.engines.ports import UnsupportedError
from tests.unit.llm.engine_contract import answer, ask, fails
from tests.unit.llm.llama_cpp_models import start_engine, write_model

RECURSIVE = {
    "$defs": {"node": {"type": "object", "properties": {"w01": {"$ref": "#/$defs/node"}}}},
    "$ref": "#/$defs/node",
}
IMPOSSIBLE = (
    {"enum": []},
    {"type": "nonsense"},
    {"not": {}},
    {"$ref": "#/nowhere"},
    {"$ref": "#"},
    {"type": "integer", "minimum": 5, "maximum": 3},
    {"type": "string", "pattern": "(unclosed"},
    {"const": "w01" * 30_000},
)


def check_schemas_that_cannot_be_held_to_are_refused(folder: Path) -> None:
    engine = start_engine(folder)
    for schema in IMPOSSIBLE:
        error = fails(UnsupportedError, lambda s=schema: engine.generate(ask(engine, json_schema=s)))
        assert error.param == "response_format"
    text, _ = answer(engine, ask(engine, max_tokens=60, json_schema=RECURSIVE))
    assert text.startswith("{")
    assert answer(engine, ask(engine, max_tokens=2, json_schema={}))[0].startswith("{")


def check_a_whole_answer_that_breaks_its_schema_is_an_error(folder: Path) -> None:
    """As where llama.cpp loses the grammar in mid-answer: it holds to less than was asked."""
    engine = start_engine(folder)
    said = {"type": "object", "properties": {"w01": {"const": "w02"}}, "required": ["w01"]}
    said["additionalProperties"] = False
    for schema in (
        {},
        said,
        {"anyOf": [{"type": "array"}, said]},
        {"properties": {"w01": {"pattern": "^(w+[0-9]*)+$"}}, "additionalProperties": False},
    ):
        with patch.object(GrammarCheck, "check", return_value=write_grammar(said)):
            assert answer(engine, ask(engine, max_tokens=80, json_schema=schema))[1].finish_reason == "stop"
    for schema in (
        {"type": "array"},
        {**said, "properties": {"w01": {"const": "w03"}}},
        {**said, "required": ["w01", "w02"]},
        {"properties": {"w01": {"pattern": "^(w+)+$"}}},
        {"properties": {"w01": {"format": "date"}}},
        RECURSIVE,
    ):
        with patch.object(GrammarCheck, "check", return_value=write_grammar(said)):
            request = ask(engine, max_tokens=80, json_schema=schema)
            error = fails(UnsupportedError, lambda r=request: answer(engine, r))
        assert error.param == "response_format" and "to its end" in str(error)


def check_an_answer_is_checked_within_bounds(folder: Path) -> None:
    deep = "[" * 200 + "]" * 200
    AnswerCheck({"$defs": {"l": {"items": {"$ref": "#/$defs/l"}}}, "$ref": "#/$defs/l"})(deep)
    for schema, text in (
        ({}, '{"w": ' * 5000 + "1" + "}" * 5000),
        ({"type": "number"}, "1e999"),
        ({"type": "string", "pattern": "^(a+)+$"}, json.dumps("a" * 4000 + "b")),
    ):
        assert "to its end" in str(fails(UnsupportedError, lambda s=schema, t=text: AnswerCheck(s)(t)))
    half = {"type": "string", "pattern": "^a.$"}
    AnswerCheck(half)('"a\\ud800"')
    long = [{"type": "string", "pattern": f"^(.{{1,44}}){{1,44}}{number}$"} for number in range(1000)]
    for schema in ({"anyOf": long}, {"pattern": "(?=a)"}, {"$ref": "http://127.0.0.1:9/schema"}):
        error = fails(UnsupportedError, lambda s=schema: AnswerCheck(s))
        assert error.param == "response_format"


def check_a_vocabulary_that_spoils_grammars_is_told(folder: Path) -> None:
    write_model(folder / "spaced.gguf", space_prefix=True)
    engine = start_engine(folder, "spaced.gguf")
    assert (
        fails(UnsupportedError, lambda: engine.generate(ask(engine, json_schema={}))).param
        == "response_format"
    )
    assert answer(engine, ask(engine))[1].finish_reason == "length"
