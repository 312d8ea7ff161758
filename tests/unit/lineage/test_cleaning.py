"""What may leave a deployment in a lineage event, and what may not."""

import json
from typing import Any

import pytest

from deployments.lineage.cleaning import MAX_EVENT, BadLineError, clean_event, clean_line
from shared import contracts
from shared.lineage import build_event

RUN_ID = "0198c0de-0000-7000-8000-000000000001"


def event(**run_facets: Any) -> dict[str, Any]:
    return build_event(
        "FAIL", RUN_ID, "ns", "dag.task", [contracts.DOCUMENTS], [contracts.CHUNKS], run_facets=run_facets
    )


def cleaned_text(made: dict[str, Any]) -> str:
    return json.dumps(clean_event(made).payload)


def test_an_event_of_ours_passes_whole() -> None:
    made = event()
    cleaned = clean_event(made)
    assert cleaned.payload == made
    assert (cleaned.run_id, cleaned.job_name, cleaned.event_type) == (RUN_ID, "dag.task", "FAIL")


def test_of_airflows_facets_only_named_fields_stay() -> None:
    airflow = {
        "dagRun": {"run_id": "manual__1", "conf": {"k": "s3cret"}, "triggering_user_name": "ada"},
        "task": {"task_id": "t", "outlets": "[{'extra': {'token': 's3cret'}}]"},
        "taskInstance": {"try_number": 1, "log_url": "http://inside"},
        "somethingNew": {"password": "s3cret"},
    }
    made = event(airflow=airflow, airflowDagRun={"dagRun": {"run_id": "r", "conf": {"k": "s3cret"}}})
    text = cleaned_text(made)
    assert "manual__1" in text and "try_number" in text
    assert not any(word in text for word in ("s3cret", "ada", "inside"))


def test_source_code_and_environment_are_dropped() -> None:
    made = event(environmentVariables={"environmentVariables": [{"name": "KEY", "value": "s3cret"}]})
    made["job"]["facets"]["sourceCode"] = {"language": "python", "sourceCode": "open('/s3cret')"}
    assert "s3cret" not in cleaned_text(made)


def test_an_error_is_cut_and_keeps_its_end() -> None:
    trace = "Traceback\n" + "frame\n" * 10_000 + "ValueError: boom"
    facet = clean_event(event(errorMessage={"message": "boom", "stackTrace": trace})).payload["run"]["facets"]
    assert len(facet["errorMessage"]["stackTrace"]) <= 2_048
    assert facet["errorMessage"]["stackTrace"].endswith("ValueError: boom")


@pytest.mark.parametrize(
    "message",
    [
        "postgresql+psycopg2://ledger:s3cret@127.0.0.1/ledger",
        "Authorization: Bearer s3cret.x",
        "key sk-s3cret9999",
    ],
)
def test_credentials_in_texts_are_masked(message: str) -> None:
    assert "s3cret" not in cleaned_text(event(errorMessage={"message": message}))


def test_what_a_database_says_of_an_error_loses_its_values() -> None:
    end = "(Background on this error at: https://sqlalche.me/e/21/gkpj)"
    message = (
        '(psycopg2.errors.NotNullViolation) null value in column "chunks"\n'
        "DETAIL:  Failing row contains (3, s3cret title).\n\n"
        f"[SQL: INSERT INTO t (a) VALUES ('s3cret')]\n[parameters: {{'title': 's3cret title'}}]\n{end}"
    )
    trace = f'Traceback (most recent call last):\n  File "a.py", line 1\nIntegrityError: {message}'
    made = event(
        errorMessage={"message": message, "stackTrace": trace}, ghostwriter={"details": {"cause": message}}
    )
    facets = clean_event(made).payload["run"]["facets"]
    assert "s3cret" not in json.dumps(facets)
    for text in facets["errorMessage"]["message"], facets["errorMessage"]["stackTrace"]:
        assert "NotNullViolation" in text and end in text


def test_values_that_reach_over_the_cut_of_a_long_text_are_cut_too() -> None:
    trace = "[parameters: {'text': '" + "s3cret " * 2_000 + "'}]\n(Background on this error at: x)"
    assert "s3cret" not in cleaned_text(event(errorMessage={"message": "boom", "stackTrace": trace}))


def test_what_the_database_cannot_hold_is_replaced() -> None:
    line = json.dumps(
        event(ghostwriter={"details": {"a": "x\x00y", "b": "\ud800", "c": float("nan")}})
    ).encode()
    details = clean_line(line).payload["run"]["facets"]["ghostwriter"]["details"]
    assert details == {"a": "x\ufffdy", "b": "\ufffd", "c": None}


def test_an_event_that_is_too_large_loses_its_details_but_not_its_datasets() -> None:
    made = event()
    made["outputs"][0]["facets"] = {
        "version": {"datasetVersion": "abc"},
        "ghostwriter": {"details": {"documents": [f"knowledge://guides/{n}.md" for n in range(20_000)]}},
    }
    cleaned = clean_event(made)
    assert len(json.dumps(cleaned.payload)) < MAX_EVENT
    assert cleaned.payload["outputs"][0]["facets"] == {"version": {"datasetVersion": "abc"}}


def test_the_same_event_has_the_same_digest_whatever_the_order_of_its_keys() -> None:
    made = event()
    assert clean_event(made).digest == clean_event(dict(reversed(made.items()))).digest
    assert clean_event(made).digest != clean_event({**made, "eventType": "ABORT"}).digest


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({**event(), "run": {"runId": "no-uuid"}}).encode(),
        json.dumps({**event(), "eventTime": "yesterday"}).encode(),
        json.dumps({**event(), "eventType": "DONE"}).encode(),
        json.dumps({**event(), "job": {"namespace": "ns", "name": "x" * 501}}).encode(),
        json.dumps({**event(), "inputs": [{"namespace": "ns"}]}).encode(),
        json.dumps({**event(), "inputs": 5}).encode(),
        json.dumps({**event(), "run": {"runId": RUN_ID, "facets": {"airflow": "text"}}}).encode(),
    ],
)
def test_a_bad_line_says_that_it_is_bad(line: bytes) -> None:
    with pytest.raises(BadLineError):
        clean_line(line)
