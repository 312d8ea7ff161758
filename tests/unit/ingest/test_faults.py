"""A sync that dies at any call to store, ledger or provider leaves old or new, and the next run finishes the job."""

import pytest

from tests.ingest_faults import MANY, Reaper, Stage, die_and_go_on
from tests.ledger import Ledgers

EVERY = 11  # statement, here; tests/integration/test_ingest_kills.py takes them all


@pytest.fixture(scope="module")
def stage(ledgers: Ledgers) -> Stage:
    return Stage(ledgers)


@pytest.mark.parametrize("when", ["before", "halfway", "after"])
def test_a_sync_that_dies_at_any_call_to_store_or_provider_is_finished_by_the_next(
    stage: Stage, when: str
) -> None:
    deaths = 0
    for at in range(1, MANY):
        if not die_and_go_on(stage, Reaper(), at, when, ledger=False):
            break
        deaths += 1
    assert deaths >= 10


def test_a_sync_that_dies_at_a_statement_or_commit_is_finished_by_the_next(stage: Stage) -> None:
    deaths = 0
    for at in range(1, MANY, EVERY):
        if not die_and_go_on(stage, Reaper(), at, "before", ledger=True):
            break
        deaths += 1
    assert deaths >= 10
