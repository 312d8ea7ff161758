"""Waits of the command line take no time here: the system in memory is done at once."""

import pytest


@pytest.fixture(autouse=True)
def quick_waits(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if request.module.__name__.endswith("test_runs"):  # brings a clock of its own
        return
    monkeypatch.setattr("cli.runs.POLL_SECONDS", 0.01)
    monkeypatch.setattr("cli.runs.SETTLE_SECONDS", 0.02)
