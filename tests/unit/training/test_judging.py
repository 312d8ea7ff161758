"""What a comparison leaves behind in tracker, registry and ledger, to the last value, and what is said of it."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest

from deployments.training import promotion, verdicts
from deployments.training.decision import decide
from deployments.training.promotion import (
    Judgement,
    OvertakenError,
    Pairing,
    crown_winner,
    find_pairing,
    judge,
    sit_exam,
)
from deployments.training.results import Point
from deployments.training.scoring import score_post
from shared.ledger.models import PromotionVerdict
from shared.llm.fake import FakeLlm
from shared.llm.port import Decoding, Message
from shared.prompt import choose_decoding
from shared.registry.fake import FakeRegistry
from shared.voice import Voice
from tests.unit.training.conftest import GOOD, NotingTracker, Sessions, register_three, write_holdout

HOLDOUT = write_holdout(6)
LOST = (
    "the provider doesn't know the champion, version 1 (ft:1): "
    "it counts as none, the challenger meets the base model"
)


@pytest.fixture
def registry() -> FakeRegistry:
    """Version 2 challenges version 1."""
    registry = register_three()
    registry.set_alias("champion", "1")
    registry.set_alias("challenger", "2")
    return registry


@pytest.mark.parametrize(
    ("known", "rival", "rival_id", "rival_version", "note"),
    [
        pytest.param({"ft:1": "no idea"}, "version 1", "ft:1", "1", "", id="the champion"),
        pytest.param({}, "base", "base", None, LOST, id="the base model, the champion is lost"),
    ],
)
def test_a_comparison_is_kept_whole(
    registry: FakeRegistry, voice: Voice, sessions: Sessions,
    known: dict[str, str], rival: str, rival_id: str, rival_version: str | None, note: str,
) -> None:  # fmt: skip
    llm, tracker = FakeLlm({"base": "no idea", "ft:2": GOOD, **known}), NotingTracker()
    pairing = find_pairing(registry, llm)
    assert pairing is not None
    assert pairing.challenger == registry.get_version("2")
    assert pairing == Pairing(
        pairing.challenger,
        registry.get_by_alias("champion"),
        registry.get_version("1") if known else None,
        note,
    )
    decision = judge(
        pairing, "base", HOLDOUT, voice, llm=llm, tracker=tracker, registry=registry, sessions=sessions,
        airflow_run="run-1",
    )  # fmt: skip
    texts = {rival_id: ("no idea",) * 6, "ft:2": (GOOD,) * 6}
    scores = {
        model: [score_post(text, e.reference, voice) for text, e in zip(each, HOLDOUT, strict=True)]
        for model, each in texts.items()
    }
    means = {model: sum(each) / 6 for model, each in scores.items()}
    assert decision == decide(scores[rival_id], scores["ft:2"], 1)

    holdout = verdicts.digest_holdout(HOLDOUT)
    key = verdicts.digest_exam(("2", "ft:2"), (rival, rival_id), HOLDOUT, voice)
    numbers = {
        "champion_score": means[rival_id], "challenger_score": means["ft:2"],
        "mean_difference": decision.mean_difference, "low": decision.low, "high": decision.high,
        "p_value": 1 / 64, "level": 0.025, "promoted": 1.0,
    }  # fmt: skip
    (run_id,) = tracker.runs
    run = tracker.runs[run_id]
    written = run["files"].pop("decision.json")
    record = json.loads(written)
    assert written == json.dumps(record, indent=1).encode()  # people read it in the tracker
    assert run == {
        "name": f"promote version 2 over {rival}",
        "key": f"promotion:{key}",
        "tags": {"ghostwriter.training_set": "set-2", "ghostwriter.airflow_run": "run-1"},
        "params": {"challenger": "2", "against": rival},
        "points": {Point(name, 0, value) for name, value in numbers.items()},
        "files": {},
        "tables": {
            "posts.json": {
                "topic": [f"topic {n}" for n in range(6)],
                "reference": [f"{GOOD}{n}" for n in range(6)],
                "champion": list(texts[rival_id]),
                "challenger": list(texts["ft:2"]),
                "champion_score": scores[rival_id],
                "challenger_score": scores["ft:2"],
            }
        },
        "datasets": {"holdout": "set-2"},
        "status": "FINISHED",
    }
    assert tracker.located == [(run_id, "holdout", "set-2", "holdout", {"holdout": 6})]
    assert record == {
        **asdict(decision),
        "challenger": {"version": "2", "model_id": "ft:2", "score": means["ft:2"]},
        "against": {"name": rival, "model_id": rival_id, "score": means[rival_id]},
        "training_set": "set-2",
        "holdout": holdout,
        "number": 1,
        "note": note,
    }
    version = registry.get_version("2")
    assert version is not None
    kept = ("mean_difference", "low", "high", "p_value")
    assert version.scores == {
        "score": means["ft:2"], "rival_score": means[rival_id], **{name: numbers[name] for name in kept},
    }  # fmt: skip
    with sessions() as session:
        row = session.get_one(PromotionVerdict, key)
        assert (row.holdout, row.challenger, row.rival) == (holdout, "2", rival_version)
        assert (row.number, row.promote) == (1, True)
        assert row.texts == {model: list(each) for model, each in texts.items()}
        assert session.query(PromotionVerdict).count() == 1


def test_a_loss_is_kept_as_one(registry: FakeRegistry, voice: Voice, sessions: Sessions) -> None:
    llm, tracker = FakeLlm({"base": "x", "ft:1": GOOD, "ft:2": "no idea"}), NotingTracker()
    pairing = find_pairing(registry, llm)
    assert pairing is not None
    judge(
        pairing, "base", HOLDOUT, voice, llm=llm, tracker=tracker, registry=registry, sessions=sessions,
        airflow_run="run-1",
    )  # fmt: skip
    (run,) = tracker.runs.values()
    assert Point("promoted", 0, 0.0) in run["points"]
    with sessions() as session:
        assert session.query(PromotionVerdict).one().promote is False


class Wordy(FakeLlm):
    """Answers with what a database can't keep, and notes how it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, list[Message], Decoding]] = []

    def complete_chat(self, model: str, messages: Sequence[Message], decoding: Decoding) -> str:
        self.asked.append((model, list(messages), decoding))
        return f" \0a\ud800{messages[-1]['content'][-1]}\0\n"


def test_an_exam_is_written_in_order_as_serving_writes_sixteen_at_once(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers: list[int | None] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, max_workers: int | None = None) -> None:
            workers.append(max_workers)
            super().__init__(max_workers)

    monkeypatch.setattr(promotion, "ThreadPoolExecutor", Pool)
    llm = Wordy()
    assert sit_exam("ft:1", HOLDOUT, voice, llm) == ("a0", "a1", "a2", "a3", "a4", "a5")
    expected = [("ft:1", example.messages, choose_decoding(voice)) for example in HOLDOUT]
    assert sorted(llm.asked, key=str) == expected
    assert workers == [16]


@pytest.mark.parametrize(
    ("judgements", "champion", "told"),
    [
        ([], "1", "No judgement was handed over."),
        (
            [("2", "3"), ("2", None)], "1",
            "Version 2 is not made the champion: it was judged while the champion was version 3, and the champion is "
            "version 1 now. Version 2 is not made the champion: it was judged while the champion was nobody, and the "
            "champion is version 1 now.",
        ),
        (
            [("2", "1"), ("3", "1")], None,
            "Version 2 is not made the champion: it was judged while the champion was version 1, and the champion is "
            "nobody now. Version 3 is not made the champion: the challenger is version 2 now.",
        ),
    ],
)  # fmt: skip
def test_why_no_judgement_stands_is_said_of_each(
    registry: FakeRegistry, judgements: list[tuple[str, str | None]], champion: str | None, told: str
) -> None:
    if champion is None:
        registry.delete_alias("champion")
    with pytest.raises(OvertakenError) as error:
        crown_winner([Judgement(*each) for each in judgements], registry)
    assert str(error.value) == told
    (found, challenger) = (registry.get_by_alias(alias) for alias in ("champion", "challenger"))
    assert (found.version if found else None) == champion
    assert challenger is not None and challenger.version == "2"


def test_a_later_challenger_outlives_the_crowning_of_the_one_before(registry: FakeRegistry) -> None:
    """The first try moved the champion and died; meanwhile another version became the challenger."""
    registry.set_alias("champion", "2")
    registry.set_alias("challenger", "3")
    crown_winner([Judgement("2", "1")], registry)
    challenger = registry.get_by_alias("challenger")
    assert challenger is not None and challenger.version == "3"
