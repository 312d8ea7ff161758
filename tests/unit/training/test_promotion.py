"""Promotion: who is compared with whom, and what is kept of it."""

import json
from itertools import count

import pytest

from deployments.training.promotion import choose_comparison, judge, promote
from deployments.training.sets import HoldoutExample
from deployments.training.tracking.fake import FakeTracker
from shared import contracts
from shared.llm.fake import FakeLlm
from shared.registry.fake import FakeRegistry
from shared.voice import Voice

GOOD = "Field note: a hook in some words.\n\nWhat do you say?\n\n#FieldNotes #Airflow"
HOLDOUT = [
    HoldoutExample([{"role": "user", "content": f"Context:\nx\n\nTopic: topic {n}"}], f"{GOOD}{n}")
    for n in range(8)
]


@pytest.fixture
def registry() -> FakeRegistry:
    registry = FakeRegistry()
    numbers = count(1)
    for _ in range(2):
        number = next(numbers)
        registry.register(model_id=f"ft:{number}", run_id="r", training_set="set", job_id=f"job-{number}")
    return registry


def test_the_branch_follows_the_aliases(registry: FakeRegistry) -> None:
    assert choose_comparison(registry) == "no_challenger"
    registry.set_alias(contracts.CHALLENGER_ALIAS, "1")
    assert choose_comparison(registry) == "no_champion"
    registry.set_alias(contracts.CHAMPION_ALIAS, "1")
    assert choose_comparison(registry) == "no_challenger"
    registry.set_alias(contracts.CHALLENGER_ALIAS, "2")
    assert choose_comparison(registry) == "compare"


def run(registry: FakeRegistry, voice: Voice, answers: dict[str, str]) -> tuple[bool, FakeTracker, FakeLlm]:
    tracker, llm = FakeTracker(), FakeLlm(answers)
    challenger = registry.get_by_alias(contracts.CHALLENGER_ALIAS)
    assert challenger is not None
    champion = registry.get_by_alias(contracts.CHAMPION_ALIAS)
    for _ in range(2):  # twice, as a retry would
        decision = judge(challenger, champion, "base", HOLDOUT, voice, llm, tracker, registry, "run-1")
    return decision.promote, tracker, llm


def test_a_first_challenger_meets_the_base_model(registry: FakeRegistry, voice: Voice) -> None:
    registry.set_alias(contracts.CHALLENGER_ALIAS, "1")
    promoted, tracker, llm = run(registry, voice, {"base": "no idea", "ft:1": GOOD})
    assert promoted
    assert {model for model, _ in llm.chats} == {"base", "ft:1"}
    (logged,) = tracker.runs.values()
    record = json.loads(logged["files"]["decision.json"])
    assert (record["promote"], record["against"]["name"], record["pairs"]) == (True, "base", 8)
    assert record["low"] > 0
    assert logged["tables"]["posts.json"]["topic"] == [f"topic {n}" for n in range(8)]
    version = registry.get_version("1")
    assert version is not None
    assert version.scores["score"] > version.scores["rival_score"]


def test_a_tie_is_recorded_and_keeps_the_champion(registry: FakeRegistry, voice: Voice) -> None:
    registry.set_alias(contracts.CHAMPION_ALIAS, "1")
    registry.set_alias(contracts.CHALLENGER_ALIAS, "2")
    promoted, tracker, llm = run(registry, voice, {"ft:1": GOOD, "ft:2": GOOD})
    assert not promoted
    assert {model for model, _ in llm.chats} == {"ft:1", "ft:2"}
    (logged,) = tracker.runs.values()
    assert "not better" in json.loads(logged["files"]["decision.json"])["reason"]


def test_both_models_get_the_same_prompts(registry: FakeRegistry, voice: Voice) -> None:
    registry.set_alias(contracts.CHALLENGER_ALIAS, "1")
    _, _, llm = run(registry, voice, {"base": "x", "ft:1": "x"})
    prompts = {
        model: sorted(messages[-1]["content"] for name, messages in llm.chats if name == model)
        for model in ("base", "ft:1")
    }
    assert prompts["base"] == prompts["ft:1"]


def test_promoting_moves_the_aliases_once(registry: FakeRegistry) -> None:
    registry.set_alias(contracts.CHAMPION_ALIAS, "1")
    registry.set_alias(contracts.CHALLENGER_ALIAS, "2")
    for _ in range(2):
        promote("2", registry)
        assert choose_comparison(registry) == "no_challenger"
    champion = registry.get_by_alias(contracts.CHAMPION_ALIAS)
    assert champion is not None
    assert champion.version == "2"
