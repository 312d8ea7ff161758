"""Preparing: pinned context, frozen sets, nothing due twice, problems handed on."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from deployments.training import records
from deployments.training.checking import check_proposal
from deployments.training.jobs import Purchase
from deployments.training.preparation import (
    ContextItem,
    build_conversation,
    build_training_set,
    digest_example,
)
from deployments.training.pricing import count_tokens
from deployments.training.proposals import read_proposal
from deployments.training.sets import freeze_set, read_holdout, read_lines
from deployments.training.tuning.port import Lengths, TuningJob
from shared.examples import Example, load_examples
from shared.ledger.models import TrainingSet
from shared.prompt import build_messages, choose_decoding
from shared.vectors.port import Chunk
from shared.voice import Voice
from tests.unit.training.conftest import find_one_chunk, write_example


def test_a_line_is_the_prompt_of_serving_and_the_post(voice: Voice) -> None:
    example = Example("assets", "Field note: hi?", Path("examples/train/a.md"), "train")
    item = ContextItem("id", "uri", "hash", "Guide", "a fact")
    built = build_training_set([example], {digest_example("assets", "Field note: hi?"): [item]}, voice)
    (line,) = built.files["train"].decode().splitlines()
    answer = {"role": "assistant", "content": "Field note: hi?"}
    assert json.loads(line)["messages"] == [*build_messages(voice, "assets", [item]), answer]
    assert built.files["holdout"] == b""


def test_a_context_with_odd_line_ends_is_still_one_line(voice: Voice, tmp_path: Path) -> None:
    item = ContextItem("id", "uri", "hash", "Guide", "a\u2028fact\u2029of\x85old")
    examples = [
        Example(f"assets {n}", "Field note: hi?", Path(f"examples/holdout/{n}.md"), "holdout")
        for n in range(2)
    ]
    contexts = {digest_example(example.topic, example.text): [item] for example in examples}
    files = freeze_set(build_training_set(examples, contexts, voice), tmp_path)
    assert [len(read_lines(files[split])) for split in ("train", "validation", "holdout")] == [0, 0, 2]
    assert count_tokens(read_lines(files["holdout"]), str.split) > 0
    first, second = read_holdout(files["holdout"])
    assert (first.topic, second.topic) == ("assets 0", "assets 1")
    assert item.text in first.messages[-1]["content"]
    # A provider may read the file by any line ends.
    assert len(files["holdout"].read_text(encoding="utf-8").splitlines()) == 2


def test_without_a_finished_ingest_run_nothing_is_pinned(prepare: Any, tmp_path: Path) -> None:
    assert prepare().outcome == "no_knowledge_base"
    assert not (tmp_path / "proposal.json").exists()


def test_an_empty_knowledge_base_pins_nothing(
    prepare: Any, knowledge: None, sessions: sessionmaker[Session]
) -> None:
    assert prepare(retrieve=lambda topic: []).outcome == "no_knowledge_base"
    assert prepare().outcome == "training_set"


def test_a_set_is_frozen_and_proposed(
    prepare: Any, knowledge: None, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    prepared = prepare()
    assert (prepared.outcome, prepared.counts) == (
        "training_set",
        {"train": 6, "validation": 6, "holdout": 6},
    )
    proposal = read_proposal(tmp_path / "proposal.json")
    assert proposal.order is not None
    assert proposal.order.training_set == prepared.training_set
    assert len(read_lines(Path(proposal.train_file))) == 6
    with sessions() as session:
        row = session.get(TrainingSet, prepared.training_set)
        assert row is not None
        assert len(row.examples) == 18
        assert row.examples[0]["chunk_ids"] == ["id-1"]
        holdout = read_holdout(Path(row.holdout_file))
    assert [example.topic for example in holdout] == [f"about holdout-{n}" for n in range(6)]
    assert holdout[0].reference.startswith("Field note: appleholdout0")


def test_a_later_knowledge_change_changes_no_set(prepare: Any, knowledge: None) -> None:
    first = prepare()

    def find_something_new(topic: str) -> list[Chunk]:
        return find_one_chunk(topic, "a newer fact")

    assert prepare(retrieve=find_something_new).training_set == first.training_set


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_a_set_that_had_its_job_is_not_due(
    prepare: Any, purchase: Purchase, sessions: sessionmaker[Session], status: str
) -> None:
    with sessions.begin() as session:
        row = records.reserve_job(session, purchase.order)
        job = TuningJob("ftjob-1", status, "base", 1, error="out of memory" if status == "failed" else "")
        records.attach_job(row, job)
        records.finish_job(row, job, model_version="7" if status == "succeeded" else None)
    prepared = prepare()
    assert prepared.outcome == "nothing_due"
    why = {
        "succeeded": "has version 7 (job ftjob-1)",
        "failed": "Job ftjob-1 has failed: out of memory; `ghostwriter train start`",
        "cancelled": "Job ftjob-1 has been cancelled; `ghostwriter train start`",
    }
    assert why[status] in prepared.reason
    with sessions.begin() as session:
        assert records.release_failed_jobs(session) == (status != "succeeded")
    assert prepare().outcome == ("nothing_due" if status == "succeeded" else "training_set")


@pytest.mark.parametrize("recorded", ["running", "succeeded"])
def test_a_job_whose_model_is_not_registered_is_still_due(
    prepare: Any, purchase: Purchase, sessions: sessionmaker[Session], recorded: str
) -> None:
    """An older version wrote `succeeded` first, and lost the model when the registry was down."""
    with sessions.begin() as session:
        row = records.reserve_job(session, purchase.order)
        records.attach_job(row, TuningJob("ftjob-1", "succeeded", "base", 1, fine_tuned_model="ft:1"))
        row.status = recorded
    assert prepare().outcome == "training_set"


def test_a_job_under_way_is_still_due(
    prepare: Any, purchase: Purchase, sessions: sessionmaker[Session]
) -> None:
    """The run that waited for it may be gone for good; the next one must find the job."""
    with sessions.begin() as session:
        records.attach_job(
            records.reserve_job(session, purchase.order), TuningJob("ftjob-1", "running", "base", 1)
        )
    assert prepare().outcome == "training_set"


def test_other_settings_are_due_again(prepare: Any, purchase: Purchase, voice: Voice, tmp_path: Path) -> None:
    budget = voice.budget.model_copy(update={"n_epochs": 3})
    prepare(voice=voice.model_copy(update={"budget": budget}))
    order = read_proposal(tmp_path / "proposal.json").order
    assert order is not None
    assert order.training_set == purchase.order.training_set
    assert order.settings_digest != purchase.order.settings_digest


@pytest.mark.parametrize(
    ("split", "outcome"),
    [
        ("train", "no_training_examples"),
        ("validation", "no_validation_examples"),
        ("holdout", "no_holdout_examples"),
    ],
)
def test_an_empty_split_reaches_the_check(
    prepare: Any, content: Path, tmp_path: Path, split: str, outcome: str
) -> None:
    for path in (content / "examples" / split).iterdir():
        path.unlink()
    assert prepare().outcome == "training_set"
    assert check_proposal(read_proposal(tmp_path / "proposal.json"), 0).outcome == outcome


def test_too_small_a_holdout_costs_nothing(
    prepare: Any, knowledge: None, content: Path, tmp_path: Path
) -> None:
    (content / "examples/holdout/holdout-0.md").unlink()
    prepare()
    verdict = check_proposal(read_proposal(tmp_path / "proposal.json"), 100)
    assert verdict.outcome == "no_holdout_examples"
    assert "has 5 posts" in verdict.reasons[0]


def test_a_malformed_file_reaches_the_check_with_its_line(
    prepare: Any, content: Path, tmp_path: Path
) -> None:
    (content / "examples/train/bad.md").write_text("---\ntopic:\n---\nHello", encoding="utf-8")
    assert prepare().outcome == "training_set"
    verdict = check_proposal(read_proposal(tmp_path / "proposal.json"), 0)
    assert verdict.outcome == "bad_format"
    assert "examples/train/bad.md:2: " in verdict.reasons[0]


def test_near_duplicates_across_sets_are_named(prepare: Any, content: Path, tmp_path: Path) -> None:
    text = "Field note: one two three four five six seven eight nine ten eleven?"
    write_example(content, "train", "original", text)
    write_example(content, "train", "same-set", text)
    write_example(content, "holdout", "copy", text.replace("eleven", "ELEVEN!!"))
    prepare()
    verdict = check_proposal(read_proposal(tmp_path / "proposal.json"), 0)
    assert verdict.outcome == "bad_format"
    assert len(verdict.reasons) == 2
    assert all("holdout/copy.md" in reason and "train/" in reason for reason in verdict.reasons)


def count_words(limit: int) -> Any:
    """A tokenizer for which a word is a token, of a model that takes so many."""

    def measure(conversations: Any) -> Lengths:
        words = (sum(len(m["content"].split()) for m in messages) for messages in conversations)
        return Lengths(tuple(words), limit)

    return measure


def count_example(content: Path, voice: Voice, split: str, name: str) -> tuple[int, int]:
    """Words of an example's prompt, and of the whole of it."""
    (example,) = (e for e in load_examples(content / "examples")[0] if e.path.stem == f"{split}-{name}")
    context = [ContextItem("id-1", "uri", "h", "Guide", "a fact")]
    messages = build_conversation(example, context, voice)
    prompt, post = (sum(len(m["content"].split()) for m in part) for part in (messages[:-1], messages[-1:]))
    return prompt, prompt + post


def test_an_example_longer_than_the_model_takes_is_named_before_anything_is_bought(
    prepare: Any, knowledge: None, content: Path, voice: Voice, tmp_path: Path
) -> None:
    write_example(content, "train", "train-long", f"Field note: {' '.join(f'x{n}' for n in range(300))}?")
    _, tokens = count_example(content, voice, "train", "long")
    assert prepare(measure=count_words(tokens)).outcome == "training_set"
    assert check_proposal(read_proposal(tmp_path / "proposal.json"), 100).outcome == "fine_tune"
    prepare(measure=count_words(tokens - 1))
    verdict = check_proposal(read_proposal(tmp_path / "proposal.json"), 100)
    assert verdict.outcome == "bad_format"
    (reason,) = verdict.reasons
    assert "examples/train/train-long.md:1: " in reason
    assert f"{tokens} tokens with its prompt, but the model takes {tokens - 1}" in reason


def test_a_holdout_prompt_must_leave_room_for_a_post(
    prepare: Any, knowledge: None, content: Path, voice: Voice, tmp_path: Path
) -> None:
    """The exam asks for as long a post as serving does; it would fail after the job is paid."""
    prompt, whole = count_example(content, voice, "holdout", "0")
    room = choose_decoding(voice).max_tokens
    assert whole < prompt + room
    prepare(measure=count_words(prompt + room))
    assert check_proposal(read_proposal(tmp_path / "proposal.json"), 100).outcome == "fine_tune"
    prepare(measure=count_words(prompt + room - 1))
    verdict = check_proposal(read_proposal(tmp_path / "proposal.json"), 100)
    assert verdict.outcome == "bad_format"
    assert len(verdict.reasons) == 6
    assert all("/holdout/" in reason and f"may have {room}" in reason for reason in verdict.reasons)


def test_a_job_under_way_is_seen_through_whatever_the_limit_is_now(
    prepare: Any, purchase: Purchase, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    with sessions.begin() as session:
        records.attach_job(
            records.reserve_job(session, purchase.order), TuningJob("ftjob-1", "running", "base", 1)
        )
    prepare(measure=count_words(1))
    assert check_proposal(read_proposal(tmp_path / "proposal.json"), 100).outcome == "fine_tune"
