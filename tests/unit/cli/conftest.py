"""`ghostwriter` on a system in memory, which is done at once: waits of the command line take no time here."""

import json
from pathlib import Path

import pytest

from cli.main import run
from tests.unit.cli.fakes import FakeSystem


@pytest.fixture(autouse=True)
def quick_waits(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if request.module.__name__.endswith("test_runs"):  # brings a clock of its own
        return
    monkeypatch.setattr("cli.runs.POLL_SECONDS", 0.01)
    monkeypatch.setattr("cli.runs.SETTLE_SECONDS", 0.02)


@pytest.fixture
def system(tmp_path: Path) -> FakeSystem:
    return FakeSystem(tmp_path)


class Command:
    """Runs `ghostwriter …` and holds what it said."""

    def __init__(self, system: FakeSystem, capsys: pytest.CaptureFixture[str]) -> None:
        self._system, self._capsys = system, capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        code = run(arguments, connection=self._system.connection)
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, *arguments: str) -> object:
        assert self(*arguments, "--json") == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def command(system: FakeSystem, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(system, capsys)
