"""Promotion: who is compared with whom, what is kept of it, and what still moves an alias afterwards."""

import json
from collections.abc import Sequence

import pytest

from deployments.training.decision import Decision, level_of
from deployments.training.promotion import (
    Judgement,
    OvertakenError,
    Pairing,
    crown_winner,
    find_pairing,
    judge,
)
from deployments.training.sets import HoldoutExample
from deployments.training.tracking.fake import FakeTracker
from shared import contracts
from shared.llm.fake import FakeLlm
from shared.llm.port import LlmError
from shared.registry.fake import FakeRegistry
from shared.voice import Voice
from tests.unit.training.conftest import GOOD, Sessions, register_three, write_holdout

HOLDOUT = write_holdout(8)
EVERYBODY = {"base": "no idea", "ft:1": GOOD, "ft:2": GOOD, "ft:3": GOOD}


@pytest.fixture
def registry() -> FakeRegistry:
    return register_three()


def version_of(registry: FakeRegistry, alias: str) -> str | None:
    found = registry.get_by_alias(alias)
    return found.version if found else None


def pair(registry: FakeRegistry, llm: FakeLlm) -> Pairing:
    pairing = find_pairing(registry, llm)
    assert pairing is not None
    return pairing


def run(
    registry: FakeRegistry,
    voice: Voice,
    llm: FakeLlm,
    tracker: FakeTracker,
    sessions: Sessions,
    *,
    holdout: Sequence[HoldoutExample] = HOLDOUT,
    airflow_run: str = "run-1",
) -> Decision:
    return judge(
        pair(registry, llm), "base", holdout, voice, llm=llm, tracker=tracker, registry=registry,
        sessions=sessions, airflow_run=airflow_run,
    )  # fmt: skip


def test_the_pairing_follows_the_aliases(registry: FakeRegistry) -> None:
    llm = FakeLlm(EVERYBODY)
    assert find_pairing(registry, llm) is None
    registry.set_alias(contracts.CHALLENGER_ALIAS, "1")
    assert pair(registry, llm).rival is None
    registry.set_alias(contracts.CHAMPION_ALIAS, "1")
    assert find_pairing(registry, llm) is None
    registry.set_alias(contracts.CHALLENGER_ALIAS, "2")
    rival = pair(registry, llm).rival
    assert rival is not None
    assert rival.version == "1"


def test_a_first_challenger_meets_the_base_model(
    registry: FakeRegistry, voice: Voice, tracker: FakeTracker, sessions: Sessions
) -> None:
    registry.set_alias(contracts.CHALLENGER_ALIAS, "1")
    llm = FakeLlm(EVERYBODY)
    assert run(registry, voice, llm, tracker, sessions).promote
    assert {model for model, _ in llm.chats} == {"base", "ft:1"}
    (logged,) = tracker.runs.values()
    record = json.loads(logged["files"]["decision.json"])
    assert (record["promote"], record["against"]["name"], record["pairs"]) == (True, "base", 8)
    assert record["p_value"] == 2**-8
    assert record["low"] > 0
    assert logged["tables"]["posts.json"]["topic"] == [f"topic {n}" for n in range(8)]
    version = registry.get_version("1")
    assert version is not None
    assert version.scores["score"] > version.scores["rival_score"]


def test_a_tie_is_recorded_and_keeps_the_champion(
    registry: FakeRegistry, voice: Voice, tracker: FakeTracker, sessions: Sessions
) -> None:
    registry.set_alias(contracts.CHAMPION_ALIAS, "1")
    registry.set_alias(contracts.CHALLENGER_ALIAS, "2")
    llm = FakeLlm(EVERYBODY)
    assert not run(registry, voice, llm, tracker, sessions).promote
    assert {model for model, _ in llm.chats} == {"ft:1", "ft:2"}
    (logged,) = tracker.runs.values()
    assert "not better" in json.loads(logged["files"]["decision.json"])["reason"]


def test_both_models_get_the_same_prompts(
    registry: FakeRegistry, voice: Voice, tracker: FakeTracker, sessions: Sessions
) -> None:
    registry.set_alias(contracts.CHALLENGER_ALIAS, "1")
    llm = FakeLlm({"base": "x", "ft:1": "x"})
    run(registry, voice, llm, tracker, sessions)
    prompts = {
        model: sorted(messages[-1]["content"] for name, messages in llm.chats if name == model)
        for model in ("base", "ft:1")
    }
    assert prompts["base"] == prompts["ft:1"]


def test_a_retry_judges_the_posts_of_the_first_try(
    registry: FakeRegistry, voice: Voice, tracker: FakeTracker, sessions: Sessions
) -> None:
    """A model doesn't write the same twice, and whoever may ask again until it wins will win."""
    registry.set_alias(contracts.CHALLENGER_ALIAS, "1")
    llm = FakeLlm(EVERYBODY)
    first = run(registry, voice, llm, tracker, sessions)
    asked = len(llm.chats)
    llm.answers["ft:1"] = "something else"
    for airflow_run in ("run-1", "run-2"):
        assert run(registry, voice, llm, tracker, sessions, airflow_run=airflow_run) == first
    assert len(llm.chats) == asked
    assert len(tracker.runs) == 1


def test_a_try_that_broke_off_goes_on_with_what_was_written(
    registry: FakeRegistry, voice: Voice, tracker: FakeTracker, sessions: Sessions
) -> None:
    registry.set_alias(contracts.CHALLENGER_ALIAS, "1")
    llm = FakeLlm({**EVERYBODY, "ft:1": "\0"})
    broken = llm.complete_chat

    def fail(model: str, *rest: object) -> str:
        if model == "ft:1":
            raise LlmError("the provider went away")
        return broken(model, *rest)  # type: ignore[arg-type]

    llm.complete_chat = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(LlmError):
        run(registry, voice, llm, tracker, sessions)
    llm.complete_chat = broken  # type: ignore[method-assign]
    run(registry, voice, llm, tracker, sessions)
    assert sorted(model for model, _ in llm.chats) == ["base"] * 8 + ["ft:1"] * 8


def test_a_challenger_replaced_between_two_tries_is_judged_in_a_run_of_its_own(
    registry: FakeRegistry, voice: Voice, tracker: FakeTracker, sessions: Sessions
) -> None:
    registry.set_alias(contracts.CHALLENGER_ALIAS, "1")
    llm = FakeLlm(EVERYBODY)
    run(registry, voice, llm, tracker, sessions)
    registry.set_alias(contracts.CHALLENGER_ALIAS, "2")
    run(registry, voice, llm, tracker, sessions)
    assert [logged["params"]["challenger"] for logged in tracker.runs.values()] == ["1", "2"]


def test_each_further_challenger_on_a_holdout_has_to_show_more(
    registry: FakeRegistry, voice: Voice, tracker: FakeTracker, sessions: Sessions
) -> None:
    """What six pairs at their best can show is enough for the first challenger and not for the second."""
    llm, six = FakeLlm(EVERYBODY), HOLDOUT[:6]
    registry.set_alias(contracts.CHALLENGER_ALIAS, "1")
    first = run(registry, voice, llm, tracker, sessions, holdout=six)
    assert (first.promote, first.level) == (True, level_of(1))
    registry.set_alias(contracts.CHALLENGER_ALIAS, "2")
    second = run(registry, voice, llm, tracker, sessions, holdout=list(reversed(six)))
    assert (second.promote, second.level) == (False, level_of(2))
    assert "used up" in second.reason and "examples/holdout" in second.reason
    registry.set_alias(contracts.CHALLENGER_ALIAS, "3")
    third = run(registry, voice, llm, tracker, sessions, holdout=HOLDOUT[1:7])
    assert (third.promote, third.level) == (True, level_of(1))


def test_a_changed_form_is_a_new_exam_on_the_same_holdout(
    registry: FakeRegistry, voice: Voice, tracker: FakeTracker, sessions: Sessions
) -> None:
    registry.set_alias(contracts.CHALLENGER_ALIAS, "1")
    llm = FakeLlm(EVERYBODY)
    assert run(registry, voice, llm, tracker, sessions).level == level_of(1)
    stricter = voice.model_copy(update={"max_words": 29})
    assert run(registry, stricter, llm, tracker, sessions).level == level_of(2)


# --- a champion that the provider doesn't know ---
def test_a_champion_that_the_provider_has_lost_counts_as_none(
    registry: FakeRegistry, voice: Voice, tracker: FakeTracker, sessions: Sessions
) -> None:
    registry.set_alias(contracts.CHAMPION_ALIAS, "1")
    registry.set_alias(contracts.CHALLENGER_ALIAS, "2")
    llm = FakeLlm({"base": "no idea", "ft:2": GOOD})
    pairing = pair(registry, llm)
    assert pairing.rival is None
    decision = run(registry, voice, llm, tracker, sessions)
    assert decision.promote
    (logged,) = tracker.runs.values()
    assert "version 1" in json.loads(logged["files"]["decision.json"])["note"]
    assert pairing.champion is not None
    crown_winner([Judgement("2", pairing.champion.version)], registry)
    assert version_of(registry, contracts.CHAMPION_ALIAS) == "2"


def test_a_provider_that_is_down_dethrones_nobody(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.set_alias(contracts.CHAMPION_ALIAS, "1")
    registry.set_alias(contracts.CHALLENGER_ALIAS, "2")
    llm = FakeLlm(EVERYBODY)

    def fail() -> list[str]:
        raise LlmError("it can't be reached")

    monkeypatch.setattr(llm, "list_models", fail)
    with pytest.raises(LlmError):
        find_pairing(registry, llm)


def test_a_challenger_that_the_provider_has_lost_is_not_judged(registry: FakeRegistry) -> None:
    registry.set_alias(contracts.CHALLENGER_ALIAS, "1")
    assert find_pairing(registry, FakeLlm({"base": "x"})) is None


# --- the crown ---
def test_the_winner_takes_the_alias_once(registry: FakeRegistry) -> None:
    registry.set_alias(contracts.CHAMPION_ALIAS, "1")
    registry.set_alias(contracts.CHALLENGER_ALIAS, "2")
    for _ in range(2):  # twice, as a retry would
        crown_winner([Judgement("2", "1")], registry)
        assert version_of(registry, contracts.CHAMPION_ALIAS) == "2"
        assert version_of(registry, contracts.CHALLENGER_ALIAS) is None


def test_a_first_champion_is_crowned(registry: FakeRegistry) -> None:
    registry.set_alias(contracts.CHALLENGER_ALIAS, "1")
    crown_winner([Judgement("1", None)], registry)
    assert version_of(registry, contracts.CHAMPION_ALIAS) == "1"


def test_a_try_that_died_between_the_two_aliases_is_finished(registry: FakeRegistry) -> None:
    registry.set_alias(contracts.CHAMPION_ALIAS, "2")
    registry.set_alias(contracts.CHALLENGER_ALIAS, "2")
    crown_winner([Judgement("2", "1")], registry)
    assert version_of(registry, contracts.CHALLENGER_ALIAS) is None


@pytest.mark.parametrize(
    ("champion", "challenger", "told"),
    [
        pytest.param("3", "2", "the champion is version 3 now", id="another champion since"),
        pytest.param(None, "2", "the champion is nobody now", id="the champion was taken away"),
        pytest.param("1", "3", "the challenger is version 3 now", id="a newer challenger"),
        pytest.param("1", None, "the challenger is nobody now", id="crowned before, then rolled back"),
        pytest.param("3", None, "the challenger is nobody now", id="an old task cleared long after"),
    ],
)
def test_nothing_moves_when_the_judgement_no_longer_stands(
    registry: FakeRegistry, champion: str | None, challenger: str | None, told: str
) -> None:
    for alias, version in ((contracts.CHAMPION_ALIAS, champion), (contracts.CHALLENGER_ALIAS, challenger)):
        if version:
            registry.set_alias(alias, version)
    with pytest.raises(OvertakenError, match=told):
        crown_winner([Judgement("2", "1")], registry)
    assert version_of(registry, contracts.CHAMPION_ALIAS) == champion
    assert version_of(registry, contracts.CHALLENGER_ALIAS) == challenger


def test_the_judgement_of_an_earlier_try_gives_way_to_the_one_that_stands(registry: FakeRegistry) -> None:
    registry.set_alias(contracts.CHAMPION_ALIAS, "1")
    registry.set_alias(contracts.CHALLENGER_ALIAS, "3")
    crown_winner([Judgement("2", None), Judgement("3", "1")], registry)
    assert version_of(registry, contracts.CHAMPION_ALIAS) == "3"
