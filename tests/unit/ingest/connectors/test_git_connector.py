"""A git repository as a source: the contract on a local one, and a remote one behind a real git server over HTTP."""

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from dulwich.repo import Repo
from dulwich.server import DictBackend
from dulwich.web import make_wsgi_chain

from deployments.ingest.connectors import git, git_fetch
from deployments.ingest.connectors.git import GitConnector, Options
from deployments.ingest.connectors.port import (
    Connector,
    DocumentUnreadableError,
    Environment,
    SourceUnavailableError,
)
from deployments.ingest.connectors.registry import build_connector
from deployments.ingest.model import Source
from tests.connector_contract import TEXTS, ConnectorContract, Place, remember

NOISE = Random(7).randbytes(125_000).hex().encode()
"""250,000 bytes, which git keeps as a difference where they are there twice."""


class GitPlace(Place):
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "repo"
        self.environment = Environment(folder, folder / "state", "", {"token": "ada:t0ken"}.get)
        self.options: dict[str, object] = {"url": "repo"}
        self.git("init", "--quiet", "--initial-branch=main", str(self.folder), at=folder)
        self.commit()

    def git(self, *arguments: str, at: Path | None = None) -> None:
        settings = ("-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *settings, *arguments], cwd=at or self.folder, check=True, timeout=60)

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=x")

    def connect(self) -> Connector:
        return build_connector(Source("docs", "git", tuple(self.options.items())), self.environment)

    def save(self, documents: Mapping[str, bytes]) -> None:
        for path, content in documents.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(content)
        self.commit()

    def delete(self, path: str) -> None:
        (self.folder / path).unlink()
        self.commit()

    def break_listing(self) -> None:
        self.save({"zzz/four.md": b"four"})
        done = subprocess.run(
            ["git", "rev-parse", "HEAD:zzz"], cwd=self.folder, capture_output=True, text=True, check=True
        )
        tree = done.stdout.strip()
        (self.folder / ".git/objects" / tree[:2] / tree[2:]).unlink()


@pytest.fixture
def place(tmp_path: Path) -> GitPlace:
    return GitPlace(tmp_path)


class TestGitConnector(ConnectorContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> GitPlace:
        return GitPlace(tmp_path)


def test_only_what_is_committed_is_there(place: GitPlace) -> None:
    place.save({"a.md": b"a"})
    (place.folder / "a.md").write_bytes(b"changed")
    (place.folder / "b.md").write_bytes(b"new")
    listed = place.list()
    assert set(listed) == {"a.md"} and place.open(listed["a.md"]) == b"a"


def test_branch_and_path_choose(place: GitPlace) -> None:
    place.save({"docs/a.md": b"a", "docs/.x.md": b"x", "src/b.md": b"b"})
    place.git("checkout", "--quiet", "-b", "next")
    place.save({"docs/c.md": b"c"})
    place.options = {"url": "repo", "branch": "main", "path": "docs/"}
    listed = place.list()
    assert set(listed) == {"a.md"} and place.open(listed["a.md"]) == b"a"
    assert listed["a.md"].place == "docs/a.md"
    place.options["branch"] = "next"
    assert set(place.list()) == {"a.md", "c.md"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"branch": "none"}, "branch"),
        ({"path": "none"}, "path"),
        ({"path": "a.md"}, "no folder"),
        ({"url": "none"}, "address"),
    ],
)
def test_a_missing_branch_folder_or_repository_is_no_empty_one(
    place: GitPlace, options: dict[str, str], said: str
) -> None:
    place.save({"a.md": b"a"})
    place.options |= options
    with pytest.raises(SourceUnavailableError, match=said):
        place.look()


def test_a_renamed_document_keeps_its_fingerprint(place: GitPlace) -> None:
    place.save({"a.md": b"a"})
    before = place.list()["a.md"].fingerprint
    place.git("mv", "a.md", "b.md")
    place.commit()
    assert place.list()["b.md"].fingerprint == before


def test_links_submodules_and_odd_names_are_problems(place: GitPlace) -> None:
    place.save({"good.md": b"# Good", "a\nb.md": b"x", os.fsdecode(b"\xff.md"): b"x"})
    (place.folder / "link.md").symlink_to("/etc/passwd")
    other = GitPlace(place.folder)
    other.folder.rename(place.folder / "sub")
    place.git("-c", "advice.addEmbeddedRepo=false", "add", "sub")
    place.commit()
    found, problems = place.look()
    assert set(found) == {"good.md"}
    assert "links are not followed" in problems["link.md"].message
    assert "submodule" in problems["sub"].message
    assert "not text" in problems["a\\nb.md"].message and "not text" in problems["\\udcff.md"].message


@pytest.mark.parametrize("packed", [False, True])
def test_sizes_are_known_before_anything_is_unpacked(place: GitPlace, packed: bool) -> None:
    """Of what is kept whole, and of what is kept as a difference to another, which is large itself."""
    texts = {f"{number}.txt": NOISE + b"%d" % number for number in range(4)}
    place.save({**texts, "small.txt": b"line\n" * 3, "huge.txt": b"x" * 60_000_000})
    if packed:
        place.git("gc", "--quiet", "--aggressive", "--prune=now")
    found, problems = place.look()
    assert set(problems) == {"huge.txt"}
    assert {path: len(place.open(reference)) for path, reference in found.items()} == {
        **{path: len(text) for path, text in texts.items()},
        "small.txt": 15,
    }
    assert all(reference.size == len(place.open(reference)) for reference in found.values())


def test_a_small_document_that_only_a_huge_one_can_be_unpacked_from_is_refused(
    place: GitPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "MAX_UNPACKED", 250_000)
    place.save({"a.txt": NOISE[:-100], "b.txt": NOISE + b"0"})
    assert set(place.look()[1]) == {"b.txt"}
    place.git("gc", "--quiet", "--aggressive", "--prune=now")
    _, problems = place.look()
    assert set(problems) == {"a.txt", "b.txt"} and "repack" in problems["a.txt"].message


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def remote(place: GitPlace) -> Iterator[GitPlace]:
    """The same repository, reached over HTTP."""
    with Repo(str(place.folder)) as repo:
        server = make_server(
            "127.0.0.1", 0, make_wsgi_chain(DictBackend({"/team/repo.git": repo})), handler_class=Quiet
        )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        place.options["url"] = f"http://127.0.0.1:{server.server_port}/team/repo.git"
        yield place
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_remote_repository_is_followed_through_its_clone(remote: GitPlace) -> None:
    remote.save(TEXTS)
    known = remote.list()
    assert {path: remote.open(reference) for path, reference in known.items()} == TEXTS
    remote.save({"one.md": b"# New\n"})
    remote.delete("two.txt")
    again = remote.list(remember(known))
    assert set(again) == {"one.md", "three.html"} and remote.open(again["one.md"]) == b"# New\n"
    assert again["three.html"] == known["three.html"]
    remote.git("commit", "--quiet", "--amend", "--message=history was rewritten")
    assert set(remote.list()) == {"one.md", "three.html"}


def test_another_machine_fetches_for_itself(remote: GitPlace, tmp_path: Path) -> None:
    remote.save(TEXTS)
    listed = remote.list()
    remote.environment = Environment(tmp_path, tmp_path / "elsewhere", "", lambda name: "")
    assert remote.open(listed["one.md"]) == TEXTS["one.md"]


def test_a_clone_of_many_packs_is_made_anew(remote: GitPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, url = remote.environment.state_dir / "git/x", str(remote.options["url"])
    monkeypatch.setattr(git_fetch, "MAX_PACKS", 2)
    packs = []
    for number in range(5):
        remote.save({"one.md": b"%d" % number})
        assert git_fetch.fetch(url, folder, "") == "main"
        packs.append(len(list(folder.rglob("*.pack"))))
    assert max(packs) == 3 and packs[-1] < 3, packs
    assert sorted(path.name for path in folder.parent.iterdir()) == ["x", "x.lock"]


def test_a_remote_that_fails_or_lacks_the_branch_is_unavailable(remote: GitPlace) -> None:
    remote.save(TEXTS)
    listed = remote.list()
    url = str(remote.options["url"])
    for options, said in (
        ({"branch": "none"}, "no branch none"),
        ({"url": url.replace("repo.git", "none.git")}, "can't be fetched"),
        ({"url": "http://127.0.0.1:9/x.git"}, "can't be reached"),
    ):
        before, remote.options = remote.options, {**remote.options, **options}
        with pytest.raises(SourceUnavailableError, match=said):
            remote.look()
        remote.options = before
    assert set(remote.list(remember(listed))) == set(TEXTS)


def test_secrets_are_not_sent_in_the_open_or_written_into_a_declaration(place: GitPlace) -> None:
    place.options = {"url": "http://example.org/x.git", "credentials": "token"}
    with pytest.raises(SourceUnavailableError, match="https"):
        place.connect()
    place.options = {"url": "https://example.org/x.git", "credentials": "lost"}
    with pytest.raises(SourceUnavailableError, match="no secret lost"):
        place.connect()
    for url in ("https://ada:t0ken@example.org/x.git", "ssh://example.org/x.git", "ftp://x/y"):
        with pytest.raises(ValueError) as caught:
            Options(url=url)
        assert "t0ken" not in str(caught.value.errors(include_input=False))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://github.com/team/docs.git", "https://github.com/team/docs/blob/main/guides/a%20b.md"),
        ("https://gitlab.example.org/team/docs", "https://gitlab.example.org/team/docs/-/blob/main/guides/a%20b.md"),
        ("https://git.example.org/docs", "guides/a b.md"),
    ],
)  # fmt: skip
def test_a_document_is_found_by_people_where_its_host_shows_it(place: GitPlace, url: str, shown: str) -> None:
    place.save({"guides/a b.md": b"a"})
    clone = GitConnector("docs", place.folder, Options(url=url, branch="main", path="guides"))
    repo = Repo(str(place.folder))
    repo.refs[git_fetch.FETCHED] = repo.head()
    clone._fetch = lambda: None  # type: ignore[method-assign]
    (reference,) = clone.list_references({})
    assert reference.place == shown  # type: ignore[union-attr]
    clone.close()
    repo.close()


def test_what_became_too_large_is_not_read(place: GitPlace) -> None:
    place.save({"a.md": b"a"})
    reference = place.list()["a.md"]
    place.save_too_large("a.md")
    with pytest.raises(DocumentUnreadableError, match="split it"):
        place.open(reference)
