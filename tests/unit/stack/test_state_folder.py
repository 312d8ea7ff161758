"""Which folders `make up` works in, and which `make clean` removes: all in temporary folders, with HOME faked."""

import os
import pwd
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stack import operations
from stack.config import StackConfig
from stack.report import PlainReport
from stack.secrets import ensure_secrets
from stack.state_folder import (
    MARKER,
    OWN_SECRETS,
    StateFolderError,
    check_removable,
    check_usable,
    is_ours,
    mark,
    was_started,
)
from tests.unit.stack.conftest import Configure, list_files


def begin(config: StackConfig) -> None:
    """A start that ends before any process: there is no voice."""
    with pytest.raises((OSError, ValueError)) as error:
        operations.up(config, report=PlainReport())
    assert not isinstance(error.value, StateFolderError), error.value


def age(folder: Path) -> None:
    """What an earlier version left behind: no marker."""
    ensure_secrets(folder / "secrets")
    for name in ("logs", "run", "postgres", "weaviate", "done"):
        (folder / name).mkdir(parents=True)
    (folder / "lock").touch()


PROTECTED = [
    "/",
    "~",
    "~/",
    "..",
    ".",
    "../..",
    "content",
    "content/",
    "content/knowledge/state",
    "~/.cache/ghostwriter",
]


@pytest.mark.parametrize("state_dir", PROTECTED)
@pytest.mark.parametrize("is_marked", [False, True])
def test_a_protected_folder_is_neither_used_nor_removed(
    machine: Path, configure: Configure, state_dir: str, is_marked: bool
) -> None:
    config = configure(state_dir)
    if is_marked and config.state_dir != Path("/"):
        config.state_dir.mkdir(parents=True, exist_ok=True)
        (config.state_dir / MARKER).touch()
    before = list_files(machine)
    with pytest.raises(StateFolderError, match="Nothing was touched"):
        operations.clean(config, report=PlainReport())
    with pytest.raises(StateFolderError, match="set it to a folder of its own"):
        operations.up(config, report=PlainReport())
    operations.down(config, report=PlainReport())
    assert operations.status(config) == []
    assert list_files(machine) == before


def test_a_link_to_a_protected_folder_is_one(machine: Path, configure: Configure) -> None:
    (machine / "link").symlink_to(machine / "project")
    before = list_files(machine)
    with pytest.raises(StateFolderError, match="the repository"):
        operations.clean(configure(machine / "link"), report=PlainReport())
    assert list_files(machine) == before


def test_the_home_of_the_account_is_protected_whatever_HOME_says(configure: Configure) -> None:
    with pytest.raises(StateFolderError, match="home"):
        operations.clean(configure(pwd.getpwuid(os.getuid()).pw_dir), report=PlainReport())


@pytest.mark.parametrize("state_dir", ["~/letters", "../letters/", "stack"])
def test_a_folder_of_someone_elses_is_neither_used_nor_removed(
    machine: Path, configure: Configure, state_dir: str
) -> None:
    before = list_files(machine)
    with pytest.raises(StateFolderError, match=r"precious.*To do: set STATE_DIR"):
        operations.clean(configure(state_dir), report=PlainReport())
    with pytest.raises(StateFolderError, match=r"precious.*new or empty folder"):
        operations.up(configure(state_dir), report=PlainReport())
    assert list_files(machine) == before


def test_secrets_of_someone_elses_stay_as_they_are(machine: Path, configure: Configure) -> None:
    """Looking at a folder, or stopping what runs there, puts nothing into it."""
    secrets = machine / "letters" / "secrets"
    secrets.mkdir()
    (secrets / "diary").write_text("dear diary")
    secrets.chmod(0o755)
    before = list_files(machine)
    config = configure("~/letters")
    assert operations.status(config) == [] and operations.info(config) == []
    operations.down(config, report=PlainReport())
    assert list_files(machine) == before and secrets.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "state_dir", [".state", ".state/", "~/my state", "../deep/er/state", "~/letters/.state"]
)
def test_what_a_start_made_is_removed_and_nothing_else(
    machine: Path, configure: Configure, state_dir: str
) -> None:
    before = list_files(machine)
    config = configure(state_dir)
    begin(config)
    assert config.state_dir.is_dir()
    begin(config)  # a second start finds its own
    operations.clean(config, report=PlainReport())
    assert not config.state_dir.exists()
    assert before <= list_files(machine)


@pytest.mark.parametrize(
    "litter", [[], [".DS_Store"], ["logs/install-main.log", "logs/install-llm.log", "logs/uv.log"]]
)
def test_an_empty_folder_and_one_that_only_an_install_wrote_to_become_ours(
    machine: Path, configure: Configure, litter: list[str]
) -> None:
    folder = machine / "new"
    for name in [".", *litter]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name != ".":
            (folder / name).touch()
    folder.mkdir(exist_ok=True)
    begin(configure(folder))
    (folder / "weaviate").mkdir()
    operations.clean(configure(folder), report=PlainReport())
    assert not folder.exists()


def test_a_file_that_is_called_as_our_logs_are_is_not_ours(machine: Path, configure: Configure) -> None:
    (machine / "new").mkdir()
    (machine / "new" / "logs").write_text("years of it")
    with pytest.raises(StateFolderError):
        operations.clean(configure(machine / "new"), report=PlainReport())
    assert (machine / "new" / "logs").is_file()


def test_logs_of_someone_elses_are_not_ours(machine: Path, configure: Configure) -> None:
    (machine / "new" / "logs").mkdir(parents=True)
    (machine / "new" / "logs" / "access.log").write_text("years of it")
    with pytest.raises(StateFolderError):
        operations.clean(configure(machine / "new"), report=PlainReport())
    assert (machine / "new" / "logs" / "access.log").is_file()


def test_the_state_of_an_earlier_version_is_used_and_removed(machine: Path, configure: Configure) -> None:
    folder = machine / "old"
    age(folder)
    operations.clean(configure(folder), report=PlainReport())
    assert not folder.exists()
    age(folder)
    begin(configure(folder))
    assert (folder / MARKER).is_file()


def test_the_state_of_an_earlier_version_with_a_foreign_file_is_kept(
    machine: Path, configure: Configure
) -> None:
    folder = machine / "old"
    age(folder)
    (folder / "thesis.tex").write_text("all I have")
    with pytest.raises(StateFolderError, match=r"thesis\.tex"):
        operations.clean(configure(folder), report=PlainReport())
    with pytest.raises(StateFolderError, match=r"thesis\.tex"):
        operations.up(configure(folder), report=PlainReport())
    assert (folder / "thesis.tex").is_file() and (folder / "postgres").is_dir()


def test_a_few_known_names_do_not_make_a_state_folder(machine: Path, configure: Configure) -> None:
    for name in ("secrets", "training", "logs"):
        (machine / "lab" / name).mkdir(parents=True)
    (machine / "lab" / "training" / "weights").write_text("weeks of work")
    with pytest.raises(StateFolderError):
        operations.clean(configure(machine / "lab"), report=PlainReport())
    assert (machine / "lab" / "training" / "weights").is_file()


def test_cleaning_where_nothing_is(machine: Path, configure: Configure) -> None:
    operations.clean(configure("~/never"), report=PlainReport())
    assert not (machine / "never").exists()


def refuse(check: Callable[[StackConfig], None], config: StackConfig) -> str:
    with pytest.raises(StateFolderError) as error:
        check(config)
    return str(error.value)


@pytest.mark.parametrize(
    ("state_dir", "reason"),
    [
        ("/", "the root of the file system"),
        ("~", "your home"),
        ("~/..", "above your home {home}"),
        (".", "the repository"),
        ("~/made/..", "your home"),
        ("content", "the content"),
        ("content/knowledge/state", "in the content {home}/project/content"),
        ("~/.cache/ghostwriter", "the cache"),
    ],
)
def test_what_a_protected_folder_is_called(
    machine: Path, configure: Configure, state_dir: str, reason: str
) -> None:
    config = configure(state_dir)
    folder, named = config.state_dir.resolve(), reason.format(home=machine)
    assert refuse(check_usable, config) == (
        f"STATE_DIR names {folder}, {named}: set it to a folder of its own, like .state"
    )
    assert refuse(check_removable, config) == (
        f"{folder} (STATE_DIR) is not removed: it is named by STATE_DIR, {named}. Nothing was touched. To do: set "
        "STATE_DIR to the folder that `make up` was given"
    )


def test_a_folder_above_the_repository_the_content_or_the_accounts_home_is_protected(
    machine: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("~/work")
    for name in ("a/project", "b/content", "c/home"):
        (machine / "work" / name).mkdir(parents=True)
    content, root = machine / "work/b/content", machine / "work/a/project"
    account = pwd.struct_passwd(("me", "x", 1, 1, "", str(machine / "work/c/home"), "sh"))
    for change, state_dir, reason in (
        ({"content_dir": content}, "work", f"above the content {content}"),
        ({"content_dir": content}, "work/b", f"above the content {content}"),
        ({"root": root}, "work", f"above the repository {root}"),
        ({"root": root}, "work/a/project", "the repository"),
    ):
        changed = replace(config, state_dir=machine / state_dir, **change)
        named = refuse(check_removable, changed).split("by STATE_DIR, ")[1].split(". Nothing")[0]
        assert named == reason
    check_removable(replace(config, state_dir=machine / "work/c/home"))
    monkeypatch.setattr(pwd, "getpwuid", {os.getuid(): account}.__getitem__)
    assert "by STATE_DIR, your home." in refuse(
        check_removable, replace(config, state_dir=machine / "work/c/home")
    )


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["b"], "b"),
        (["c", "a", "b", "postgres"], "a, b, c"),
        (["d", "c", "a", "b", "logs"], "a, b, c and 1 more"),
        (["secrets", "logs", "run", "lock", "done"], "done, lock, logs and 2 more"),
    ],
)
def test_what_a_folder_of_someone_elses_holds_is_said(
    machine: Path, configure: Configure, names: list[str], shown: str
) -> None:
    for name in names:
        (machine / "other" / name).mkdir(parents=True)
    (machine / "other/.DS_Store").touch()
    config = configure("~/other")
    assert refuse(check_usable, config) == (
        f"{machine}/other (STATE_DIR) holds what Ghostwriter did not put there ({shown}): set STATE_DIR to a new or "
        "empty folder, or move these elsewhere"
    )
    assert refuse(check_removable, config) == (
        f"{machine}/other (STATE_DIR) is not removed: it bears no mark of `make up` and holds what Ghostwriter did "
        f"not put there ({shown}). Nothing was touched. To do: set STATE_DIR to the folder that `make up` was given; "
        "if it is this one, move those elsewhere, or remove the folder yourself"
    )


def test_a_mark_says_whose_the_folder_is_and_can_be_set_again(machine: Path, configure: Configure) -> None:
    config = configure("~/deep/er")
    for _ in range(2):
        mark(config)
        assert list_files(machine / "deep") == {machine / "deep/er", machine / "deep/er/.ghostwriter"}
        assert (machine / "deep/er/.ghostwriter").read_text() == (
            "The state of a Ghostwriter stack. `make clean` removes this folder with all that is in it.\n"
        )
    (machine / "deep/er/more").touch()
    assert is_ours(machine / "deep/er")
    check_usable(config)
    check_removable(config)


def test_all_secrets_make_an_unmarked_folder_ours_and_any_of_them_tells_of_a_start(machine: Path) -> None:
    folder = machine / "old"
    (folder / "logs").mkdir(parents=True)
    assert is_ours(folder) and not was_started(folder)
    (folder / MARKER).touch()
    assert not was_started(folder), "a start makes secrets"
    (folder / MARKER).unlink()
    (folder / "secrets").mkdir()
    assert not is_ours(folder) and not was_started(folder)
    names = sorted(OWN_SECRETS)
    for number, name in enumerate(names, start=1):
        (folder / "secrets" / name).touch()
        assert is_ours(folder) == (number == len(names)) and was_started(folder)
    (folder / "secrets" / names[0]).unlink()
    assert not is_ours(folder) and was_started(folder)
    (folder / MARKER).touch()
    for name in names[1:]:
        (folder / "secrets" / name).unlink()
    assert is_ours(folder) and was_started(folder)


def test_one_log_that_no_install_wrote_is_someone_elses(machine: Path) -> None:
    folder = machine / "new"
    (folder / "logs").mkdir(parents=True)
    for name in ("install-main.log", "uv.log"):
        (folder / "logs" / name).touch()
    assert is_ours(folder)
    for name in ("install.log", "install-main.txt", "uv.log.1"):
        (folder / "logs" / name).touch()
        assert not is_ours(folder)
        (folder / "logs" / name).unlink()
