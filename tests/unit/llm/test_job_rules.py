"""The rules beside the jobs: when one will be done, why one failed, and who may have a state folder."""

import errno
import os
import subprocess
import sys

import pytest

from deployments.llm.fine_tuning.estimate import estimate_finish
from deployments.llm.fine_tuning.failures import describe_deaths, describe_end, died
from deployments.llm.fine_tuning.job import ATTEMPT_RESUMED, ATTEMPT_STARTED, Event, TrainingResult
from deployments.llm.state_lock import FolderInUseError, lock_folder

ROOM = 10**9


def told(at, message):
    return Event(id="e", created_at=at, message=message)


def stepped(at, step):
    return Event(id="e", created_at=at, message="", type="metrics", data={"step": step, "total_steps": 100})


STEPS = [told(0, ATTEMPT_STARTED), *(stepped(10 * step, step) for step in range(1, 51))]
RESUMED = [*STEPS, told(900, f"{ATTEMPT_RESUMED} 40")]


@pytest.mark.parametrize(
    ("events", "finish"),
    [
        ([], None),
        (STEPS[:3], None),
        (STEPS[:4], 30 + 97 * 10),
        (STEPS, 500 + 50 * 10),
        (RESUMED, None),
        ([*RESUMED, stepped(1000, 41), stepped(1002, 42)], None),
        # The pause and the steps that are done again say nothing of the rate.
        ([*RESUMED, *(stepped(1000 + 2 * number, 41 + number) for number in range(5))], 1008 + 55 * 2),
        ([*RESUMED, stepped(1000, 41), stepped(1000, 41), stepped(1000, 41)], None),
    ],
)
def test_the_rate_of_the_running_attempt_tells_when_a_job_will_be_done(events, finish):
    assert estimate_finish(events) == finish


@pytest.mark.parametrize(
    ("code", "by_another"),
    [(-9, True), (-11, True), (137, True), (143, True), (0, False), (1, False), (3, False), (128, False), (255, False)],
)  # fmt: skip
def test_a_trainer_that_was_killed_is_told_from_one_that_gave_up(code, by_another):
    assert died(code) is by_another


@pytest.mark.parametrize(
    ("result", "free", "code", "words"),
    [
        ({"error": "no such model"}, ROOM, "training_failed", "no such model"),
        ({"error": "too long", "code": "invalid_training_file"}, 0, "invalid_training_file", "too long"),
        ({"error": f"OSError: [Errno 28] {os.strerror(errno.ENOSPC)}"}, ROOM, "disk_full", "Free some space"),
        ({}, 1000, "disk_full", "Free some space"),
        ({}, ROOM, "training_failed", "ended with code 3; see trainer.log"),
    ],
)
def test_a_failure_says_what_to_look_at(result, free, code, words):
    failure = describe_end(3, TrainingResult(**result), free)
    assert failure.code == code
    assert words in failure.message


def test_deaths_before_any_checkpoint_are_told_as_such():
    assert "3 times in a row before its first checkpoint (SIGKILL)" in describe_deaths(-9, None).message


def test_a_folder_is_one_servers_until_it_ends(tmp_path):
    held = lock_folder(tmp_path / "state")
    with pytest.raises(FolderInUseError, match=rf"process {os.getpid()}\) uses .*state.*Stop it first"):
        lock_folder(tmp_path / "state")
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE
    )  # as a trainer is started
    try:
        os.close(held)
        os.close(lock_folder(tmp_path / "state"))
    finally:
        child.communicate(b"\n", timeout=10)
