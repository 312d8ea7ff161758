"""Status, info and logs of a stack that is not running."""

import dataclasses
from pathlib import Path

import pytest

from stack import operations, record
from stack.component import Component
from stack.config import StackConfig, load_config
from stack.declarations import build_settings, declare_all
from stack.operations import ComponentStatus
from stack.pages import list_pages
from stack.report import PlainReport

KEYS = {"name", "url", "state", "user", "password_file", "pid"}


def test_nothing_before_the_first_start(tmp_path: Path) -> None:
    config = load_config({"STATE_DIR": str(tmp_path / "state")})
    assert operations.status(config) == [] and operations.info(config) == []
    assert not config.state_dir.exists()


def test_info_has_the_promised_shape(stack_config: StackConfig) -> None:
    rows = {row["name"]: row for row in operations.info(stack_config)}
    assert all(set(row) - {"api_key_file"} == KEYS for row in rows.values())
    assert rows["llm"]["password_file"] == rows["llm"]["api_key_file"]
    assert Path(rows["llm"]["api_key_file"]).read_text() == stack_config.secret("llm_api_key")
    assert rows["serving"]["user"] == "admin" and rows["serving"]["url"] == "http://127.0.0.1:7860"
    assert rows["serving"]["state"] == "stopped"
    assert rows["marquez"]["state"] in {"unavailable", "stopped"}


def test_a_marquez_of_ones_own_is_external(stack_config: StackConfig) -> None:
    config = dataclasses.replace(stack_config, marquez_url="http://127.0.0.1:5000")
    row = next(row for row in operations.status(config) if row.name == "marquez")
    assert (row.state, row.url) == ("external", "http://127.0.0.1:5000")


def test_logs_of_an_unknown_component_name_the_known(stack_config: StackConfig) -> None:
    operations.prepare(stack_config)
    (stack_config.logs_dir / "llm.log").write_text("one\ntwo\nthree\n")
    assert list(operations.logs(stack_config, "llm", lines=2)) == ["two", "three"]
    assert list(operations.logs(stack_config)) == ["llm | one", "llm | two", "llm | three"]
    with pytest.raises(ValueError, match="there are: llm"):
        list(operations.logs(stack_config, "lmm"))


def test_the_pages_are_those_that_can_be_opened(stack_config: StackConfig) -> None:
    rows = [
        ComponentStatus("serving", "ready", url="http://desk"),
        ComponentStatus("mlflow", "stopped", url="http://models"),
        ComponentStatus("llm", "ready", url="http://llm"),
        ComponentStatus("marquez", "external", url="http://marquez"),
    ]
    assert [url for _, url in list_pages(rows)] == ["http://desk", "http://desk", "http://marquez"]
    assert list_pages([ComponentStatus("marquez", "unavailable")]) == []


def test_what_was_started_is_told_whatever_today_says(stack_config: StackConfig) -> None:
    config = dataclasses.replace(
        stack_config,
        marquez_url="http://127.0.0.1:5000",
        overrides={"GHOSTWRITER_LLM_BASE_URL": "https://llm.example/v1"},
        content_dir=stack_config.state_dir / "content",
        ports={name: port + 100 for name, port in stack_config.ports.items()},
    )
    operations.prepare(config)
    record.write(config, declare_all(config), build_settings(config))
    assert operations.status(stack_config) == operations.status(config)
    assert operations.get_settings(stack_config) == build_settings(config)
    secrets = [path.read_text() for path in config.secrets_dir.iterdir()]
    assert not any(secret in (config.run_dir / "started.json").read_text() for secret in secrets)
    started = record.read(stack_config)
    assert started is not None
    bare = [
        dataclasses.replace(one, env={}) if isinstance(one, Component) else one for one in declare_all(config)
    ]
    assert list(started.components) == bare

    operations.down(stack_config, report=PlainReport())
    assert operations.get_settings(stack_config) == build_settings(stack_config)
    row = next(row for row in operations.status(stack_config) if row.name == "serving")
    assert row.url == f"http://127.0.0.1:{stack_config.ports['SERVING_PORT']}"


def test_a_record_that_cannot_be_read_is_none(stack_config: StackConfig) -> None:
    operations.prepare(stack_config)
    (stack_config.run_dir / "started.json").write_text('{"components": [{"name": 1')
    assert operations.get_settings(stack_config) == build_settings(stack_config)
