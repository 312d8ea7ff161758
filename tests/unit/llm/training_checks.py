"""Trains tiny models with random weights in the folder given, in this process and in trainers that are killed.

`.venv-trainer/bin/python -m tests.unit.llm.training_checks FOLDER` prints each check's name and what failed, in JSON.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from deployments.llm.engines.weights import name_weights
from deployments.llm.fine_tuning.folder import checkpoint_dir, read_checkpoints
from deployments.llm.fine_tuning.job import Hyperparameters, Job
from deployments.llm.fine_tuning.store import read_events
from deployments.llm.trainer import __main__ as trainer_process
from deployments.llm.trainer import model, training
from deployments.llm.trainer.data import collate, encode_examples
from deployments.llm.trainer.training import train_job
from tests.unit.llm.check_outcomes import collect_outcomes, find_checks
from tests.unit.llm.engine_contract import WORDS, fails
from tests.unit.llm.tiny_models import make_models

STEPS = 10  # of 2 epochs
_CONTEXTS = {
    "supervised": multiprocessing.get_context("forkserver"),  # what is imported, is imported once
    "dpo": multiprocessing.get_context("spawn"),  # pyarrow does not bear a fork
}


def make_conversations(count: int) -> list[list[dict[str, str]]]:
    """Chats of different lengths that all end alike."""
    words = [WORDS[number % len(WORDS)] for number in range(60)]
    return [
        [
            {"role": "user", "content": " ".join(words[number : number + 4 + 3 * (number % 4)])},
            {"role": "assistant", "content": " ".join(words[:3])},
        ]
        for number in range(count)
    ]


def count_words(count: int) -> int:
    """Tokens of all of them."""
    return sum(len(f"{p['content']} {a['content']}".split()) for p, a in make_conversations(count))


def make_job(
    folder: Path, name: str, lines: list[dict], validation: list[dict] | None = None, **wishes
) -> tuple[Path, Job]:
    """A job's folder, as the server makes it."""
    job_dir = folder / name
    shutil.rmtree(job_dir, ignore_errors=True)
    job_dir.mkdir()
    method = wishes.pop("method", "supervised")
    job = Job(
        id=f"ftjob-{len(name):08x}",
        created_at=1,
        model="tiny",
        status="running",
        training_file="file-1",
        validation_file="file-2" if validation else None,
        hyperparameters=Hyperparameters(
            **{"n_epochs": 2, "batch_size": 2, "learning_rate_multiplier": 5.0, **wishes}
        ),
        method={"type": method},
        seed=1,
    )
    (job_dir / "job.json").write_text(job.model_dump_json())
    for file, content in (("train.jsonl", lines), ("validation.jsonl", validation)):
        if content:
            (job_dir / file).write_text("".join(json.dumps(line) + "\n" for line in content))
    return job_dir, job


def chats(count: int) -> list[dict]:
    """Lines of a supervised training file."""
    return [{"messages": messages} for messages in make_conversations(count)]


def preferences(count: int) -> list[dict]:
    """Lines of a training file for dpo."""
    return [
        {
            "input": {"messages": [prompt]},
            "preferred_output": [answer],
            "non_preferred_output": [{"role": "assistant", "content": "w70 w71"}],
        }
        for prompt, answer in make_conversations(count)
    ]


def train(folder: Path, job_dir: Path, job: Job, **wishes) -> int:
    """Trains in this process."""
    return train_job(job_dir, job, str(folder / "chat"), **{"max_tokens": 100, "threads": 1, **wishes})


def read_table(job_dir: Path) -> list[dict[str, str]]:
    header, *lines = (job_dir / "metrics.csv").read_text().splitlines()
    return [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]


def check_training_learns_and_tells(folder: Path) -> None:
    job_dir, job = make_job(folder, "learns", chats(9), chats(3))
    tokens = train(folder, job_dir, job)
    assert tokens == 2 * count_words(9)
    table = read_table(job_dir)
    assert [int(row["step"]) for row in table] == list(range(1, STEPS + 1))
    assert [bool(row["valid_loss"]) for row in table] == [step in (5, 10) for step in range(1, STEPS + 1)]
    assert float(table[-1]["valid_loss"]) < float(table[4]["valid_loss"]) - 0.1, table
    assert (job_dir / "adapter" / "adapter_config.json").is_file()
    told = [event.data for event in read_events(job_dir) if event.type == "metrics"]
    assert [one["step"] for one in told] == list(range(1, STEPS + 1)) and told[-1]["total_steps"] == STEPS
    first, last = read_checkpoints(job_dir)
    assert (first.step, first.epoch, last.step, last.epoch) == (5, 1, 10, 2)
    assert set(last.metrics) == {
        "train_loss",
        "train_mean_token_accuracy",
        "valid_loss",
        "valid_mean_token_accuracy",
    }


def check_a_job_does_not_go_on_with_another_base(folder: Path) -> None:
    job_dir, job = make_job(folder, "rebased", chats(3))
    train(folder, job_dir, job)
    config = json.loads((job_dir / "adapter" / "adapter_config.json").read_text())
    assert name_weights(config["base_model_name_or_path"]) == "chat"
    shutil.copytree(folder / "chat", folder / "other-chat", dirs_exist_ok=True)
    error = fails(
        ValueError, lambda: train_job(job_dir, job, str(folder / "other-chat"), max_tokens=100, threads=1)
    )
    assert "chat" in str(error) and "other-chat" in str(error)


def check_the_same_seed_learns_the_same_with_any_number_of_threads(folder: Path) -> None:
    weights = []
    for threads in (1, 2, 2):
        job_dir, job = make_job(folder, "alike", chats(9))
        train(folder, job_dir, job, threads=threads)
        weights.append(load_file(job_dir / "adapter" / "adapter_model.safetensors"))
    one, two, again = weights
    assert all(torch.equal(value, again[name]) for name, value in two.items())
    assert all(torch.allclose(value, one[name], atol=1e-3) for name, value in two.items())


def check_only_what_the_assistant_says_is_learned(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "chat")
    turns = [
        {"role": "user", "content": "w01 w02"},
        {"role": "assistant", "content": "w03"},
        {"role": "user", "content": "w04"},
        {"role": "assistant", "content": "w05 w06"},
    ]
    (example,) = encode_examples(tokenizer, [turns], 100)
    said = [
        tokenizer.decode([token]).strip()
        for token, own in zip(example.ids, example.learned, strict=True)
        if own
    ]
    assert said == ["w03", "w05", "w06"] and example.length == 6
    (short,) = encode_examples(tokenizer, [turns[2:]], 100)
    batch = collate([example, short])
    assert batch["input_ids"].shape == (2, 6) and batch["attention_mask"].sum() == 9
    assert batch["learned"].tolist() == [[True, False, True, True], [False, False, True, True]]


def check_the_worst_epochs_are_not_kept(folder: Path) -> None:
    # What is held out is the contrary of what is learned: it gets worse from the first epoch on.
    contrary = [
        {"messages": [prompt, {"role": "assistant", "content": "w80 w81 w82"}]}
        for prompt, _ in make_conversations(3)
    ]
    job_dir, job = make_job(folder, "early", chats(9), contrary, n_epochs=6, early_stopping_patience=2)
    tokens = train(folder, job_dir, job)
    losses = [float(row["valid_loss"]) for row in read_table(job_dir) if row["valid_loss"]]
    best = losses.index(min(losses))
    assert len(losses) == best + 3 < 6, losses
    assert tokens == len(losses) * count_words(9)
    kept = load_file(job_dir / "adapter" / "adapter_model.safetensors")
    of_best = load_file(checkpoint_dir(job_dir, 5 * (best + 1)) / "adapter_model.safetensors")
    assert all(torch.equal(value, of_best[name]) for name, value in kept.items())
    # What a resume needs is kept for the newest two alone, the adapter for all.
    saved = [checkpoint_dir(job_dir, one.step) for one in read_checkpoints(job_dir)]
    assert [(path / "optimizer.pt").exists() for path in saved] == [False] * (len(losses) - 2) + [True] * 2


def check_preferences_are_learned(folder: Path) -> None:
    job_dir, job = make_job(folder, "dpo", preferences(8), preferences(3), method="dpo", n_epochs=3, beta=0.1)
    train(folder, job_dir, job)
    table = read_table(job_dir)
    assert abs(float(table[0]["train_loss"]) - 0.69315) < 1e-4  # the adapter is its own reference
    valid = [float(row["valid_loss"]) for row in table if row["valid_loss"]]
    assert len(valid) == 3 and valid[-1] < valid[0] < 0.69315, valid
    told = [event.data for event in read_events(job_dir) if event.type == "metrics"][-1]
    assert told["reward_accuracy"] == 1.0 and told["reward_margin"] > 0
    assert (job_dir / "adapter" / "adapter_model.safetensors").is_file()


def check_what_is_too_long_is_named_by_its_number(folder: Path) -> None:
    long = {
        "messages": [{"role": "user", "content": " ".join(WORDS)}, {"role": "assistant", "content": "w01"}]
    }
    job_dir, job = make_job(folder, "long", [*chats(2), long])
    assert str(fails(ValueError, lambda: train(folder, job_dir, job, max_tokens=90))) == (
        "Example 3 has 91 tokens; 90 is the limit."
    )
    assert train(folder, job_dir, job, max_tokens=91)


def check_a_loss_that_is_no_number_ends_the_job_in_words(folder: Path) -> None:
    broken = folder / "broken"
    shutil.copytree(folder / "chat", broken, dirs_exist_ok=True)
    from safetensors.torch import save_file

    weights = load_file(broken / "model.safetensors")
    weights["lm_head.weight"][100:] = torch.nan
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    job_dir, job = make_job(folder, "nan", chats(4))
    error = fails(ValueError, lambda: train_job(job_dir, job, str(broken), max_tokens=100, threads=1))
    assert "The loss became nan at step 1" in str(error)


def check_a_damaged_checkpoint_is_left_out_with_a_word(folder: Path) -> None:
    job_dir, job = make_job(folder, "damaged", chats(9), chats(3))
    train(folder, job_dir, job)
    table = (job_dir / "metrics.csv").read_text()
    for name in ("adapter", "metrics.csv"):
        path = job_dir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with (checkpoint_dir(job_dir, 10) / "optimizer.pt").open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"damage")
    (job_dir / "checkpoints" / ".step-12").mkdir()
    train(folder, job_dir, job)
    assert (job_dir / "metrics.csv").read_text() == table
    words = [event.message for event in read_events(job_dir)]
    assert any("step-10 is damaged" in message for message in words)
    assert any("Resuming after step 5" in message for message in words)
    assert not (job_dir / "checkpoints" / ".step-12").exists()


def check_kills_at_any_step_change_nothing(folder: Path) -> None:
    """Trainers that save after each step, killed with SIGKILL at random moments, against one that is left alone."""
    for method, content, kills in (("supervised", chats(9), 3), ("dpo", preferences(9), 1)):
        whole, job = make_job(folder, f"whole-{method}", content, content[:3], method=method)
        trained = train(folder, whole, job)
        torn, job = make_job(folder, f"torn-{method}", content, content[:3], method=method)
        chooser = random.Random(method)
        for _ in range(kills):
            target = chooser.randrange(1, 3) + count_steps(torn)
            trainer = start_trainer(folder, torn, method)
            deadline = time.monotonic() + 60
            while count_steps(torn) < target and trainer.is_alive() and time.monotonic() < deadline:
                time.sleep(0.002)
            trainer.kill()
            trainer.join(10)
            assert trainer.exitcode == -signal.SIGKILL, (
                trainer.exitcode,
                (torn / "trainer.log").read_text()[-2000:],
            )
        assert train(folder, torn, job) == trained
        assert any("Resuming after step" in event.message for event in read_events(torn))
        assert (torn / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
        ours, theirs = (load_file(one / "adapter" / "adapter_model.safetensors") for one in (torn, whole))
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def check_the_process_leaves_a_result_or_an_error(folder: Path) -> None:
    """A fork that has torch; the clients' tests start one by its command, on the bundled model."""
    job_dir, _ = make_job(folder, "process", chats(4))
    trainer = start_trainer(folder, job_dir, "supervised")
    trainer.join(60)
    assert trainer.exitcode == 0, (job_dir / "trainer.log").read_text()[-2000:]
    assert json.loads((job_dir / "result.json").read_text())["trained_tokens"] == 2 * count_words(4)
    (job_dir / "train.jsonl").write_text("[]\n")
    trainer = start_trainer(folder, job_dir, "supervised")
    trainer.join(60)
    assert trainer.exitcode == 1
    assert "Line 1" in json.loads((job_dir / "result.json").read_text())["error"]


def count_steps(job_dir: Path) -> int:
    """The furthest step that was told of."""
    steps = [event.data["step"] for event in read_events(job_dir) if event.type == "metrics"]
    return max(steps, default=0)


def start_trainer(folder: Path, job_dir: Path, method: str) -> "BaseProcess":
    """The trainer's process."""
    process = _CONTEXTS[method].Process(target=run_trainer, args=(folder, job_dir), daemon=True)
    process.start()
    return process


def run_trainer(folder: Path, job_dir: Path) -> None:
    """What the process of a trainer does, saving after each step."""
    log = os.open(job_dir / "trainer.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(GHOSTWRITER_LLM_BASE_MODEL=str(folder / "chat"), GHOSTWRITER_LLM_TRAINER_THREADS="1")
    with (
        mock.patch.object(training, "SAVE_SECONDS", 0.0),
        mock.patch.object(model, "choose_dtype", return_value=torch.float32),
        mock.patch.object(sys, "argv", ["", str(job_dir)]),
    ):
        sys.exit(trainer_process.main())


def run_checks(folder: Path) -> dict[str, str]:
    """What failed, by the name of the check; empty where it passed."""
    _CONTEXTS["supervised"].set_forkserver_preload(["deployments.llm.trainer.training"])
    make_models(folder)
    return collect_outcomes({name: partial(check, folder) for name, check in find_checks(globals()).items()})


if __name__ == "__main__":
    with mock.patch.object(model, "choose_dtype", return_value=torch.float32):
        print(json.dumps(run_checks(Path(sys.argv[1]))))
