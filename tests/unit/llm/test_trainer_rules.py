"""What of the trainer needs no torch: its table, early stopping, checkpoints on disk, failures in words."""

import errno
import json
from pathlib import Path

import pytest

from deployments.llm.engines.weights import WeightsMissingError
from deployments.llm.fine_tuning.folder import checkpoint_dir, read_checkpoints
from deployments.llm.trainer.checkpoints import (
    ADAPTER_FILES,
    copy_adapter,
    find_resumable,
    remove_leftovers,
    save_checkpoint,
)
from deployments.llm.trainer.failures import explain, name_code
from deployments.llm.trainer.metrics import (
    Row,
    choose_best,
    format_table,
    parse_table,
    round_row,
    stops_early,
)


def validated(*losses: float) -> list[Row]:
    return [Row(step, 2.0, 0.5, loss, 0.5) for step, loss in enumerate(losses, 1)]


def test_a_table_is_read_as_it_was_written() -> None:
    rows = [
        round_row(Row(1, 3.1234567, 0.25)),
        round_row(Row(2, 2.0, 1 / 3)).validated(2.7182818, 2 / 3),
    ]
    table = format_table(rows)
    assert table.decode().splitlines() == [
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy",
        "1,3.12346,0.25000,,",
        "2,2.00000,0.33333,2.71828,0.66667",
    ]
    assert parse_table(table) == rows
    assert rows[1].checkpoint_metrics.keys() == {
        "train_loss",
        "train_mean_token_accuracy",
        "valid_loss",
        "valid_mean_token_accuracy",
    }


@pytest.mark.parametrize(
    ("losses", "patience", "stops"),
    [
        ((3.0, 2.0, 2.1), 1, True),
        ((3.0, 2.0, 2.1), 2, False),
        ((3.0, 2.0, 2.0, 2.0), 2, True),
        ((3.0, 3.1, 2.9), 1, False),
        ((3.0, 9.0, 9.0), 0, False),
        ((), 1, False),
    ],
)
def test_patience_counts_epochs_without_a_better_loss(
    losses: tuple[float, ...], patience: int, stops: bool
) -> None:
    assert stops_early(validated(*losses), patience) is stops


def test_the_best_epoch_is_the_first_of_the_lowest() -> None:
    best = choose_best([*validated(3.0, 2.0, 2.0), Row(4, 1.0, 0.9)])
    assert best and best.step == 2
    assert choose_best([Row(1, 1.0, 0.9)]) is None


def save(job_dir: Path, step: int, epoch: int | None) -> None:
    def write(folder: Path) -> None:
        for name in (*ADAPTER_FILES, "optimizer.pt"):
            (folder / name).write_bytes(f"{name} {step}".encode())

    save_checkpoint(job_dir, step, epoch, {"train_loss": 2.0}, write)


def test_checkpoints_are_thinned_out_and_the_newest_whole_one_is_found(tmp_path: Path) -> None:
    for step, epoch in ((1, None), (2, None), (3, 1), (6, 2), (9, 3), (10, None)):
        save(tmp_path, step, epoch)
    found = read_checkpoints(tmp_path)
    assert [(one.step, one.epoch) for one in found] == [(3, 1), (6, 2), (9, 3), (10, None)]
    assert [(checkpoint_dir(tmp_path, one.step) / "optimizer.pt").exists() for one in found] == [
        False,
        False,
        True,
        True,
    ]
    assert find_resumable(tmp_path) == (checkpoint_dir(tmp_path, 10), [])
    (checkpoint_dir(tmp_path, 10) / "optimizer.pt").write_bytes(b"damage")
    assert find_resumable(tmp_path) == (checkpoint_dir(tmp_path, 9), ["step-10"])
    (checkpoint_dir(tmp_path, 9) / "checkpoint.json").write_bytes(b"{")
    # The older ones keep too little to go on from.
    resumable, damaged = find_resumable(tmp_path)
    assert resumable is None and damaged[:2] == ["step-10", "step-9"]
    save(tmp_path, 10, None)
    assert find_resumable(tmp_path)[0] == checkpoint_dir(tmp_path, 10)


def test_what_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "adapter_config.json").write_bytes(b"{}")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, 4, 1, {}, write)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    (tmp_path / "checkpoints" / ".step-5").mkdir()
    remove_leftovers(tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_an_adapter_is_copied_in_the_place_of_an_older_one(tmp_path: Path) -> None:
    save(tmp_path, 3, 1)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "old").touch()
    copy_adapter(checkpoint_dir(tmp_path, 3), tmp_path / "adapter")
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == set(ADAPTER_FILES)
    assert json.loads((checkpoint_dir(tmp_path, 3) / "checkpoint.json").read_text())["files"].keys() == {
        *ADAPTER_FILES,
        "optimizer.pt",
    }


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
        (
            RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
            "disk is full",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "Not enough memory"),
        (ValueError("Example 3 has 900 tokens; 100 is the limit."), "Example 3 has 900 tokens"),
        (WeightsMissingError("The folder x is not a whole model"), "not a whole model"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_failures_are_told_in_words(error: Exception, words: str, tmp_path: Path) -> None:
    assert words in explain(error, tmp_path)


@pytest.mark.parametrize(
    ("error", "code"), [(OSError(errno.ENOSPC, "x"), "disk_full"), (ValueError("x"), None)]
)
def test_a_full_disk_has_its_code(error, code, tmp_path):
    assert name_code(error, tmp_path) == code
