"""Status, info and logs of a stack that is not running."""

import dataclasses
from pathlib import Path

import pytest

from stack import operations
from stack.config import StackConfig, load_config

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
