import os
from pathlib import Path

import pytest

from deployments.ingest.sources import MAX_BYTES, KnowledgeError, list_sources, scan_sources
from tests.unit.ingest.conftest import close_folder


def fill(folder: Path) -> Path:
    for name, content in {
        "guides/assets.md": b"# Assets\n\nAn asset is data.",
        "guides/deep/hooks.md": "# Häkchen\n".encode(),
        "notes/one.txt": b"\xef\xbb\xbfone",
        "guides/.hidden.md": b"secret",
        ".git/config.md": b"not a source",
        "guides/binary.md": b"a\0b",
        "guides/latin.md": "é".encode("latin-1"),
        "guides/empty.md": b" \n",
        "guides/paper.pdf": b"%PDF",
        "stray.md": b"# Stray",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_documents_have_portable_uris_and_content_hashes(tmp_path: Path) -> None:
    documents, _ = scan_sources(fill(tmp_path))
    assert [d.uri for d in documents] == [
        "knowledge://guides/assets.md",
        "knowledge://guides/deep/hooks.md",
        "knowledge://notes/one.txt",
    ]
    before = documents[0].content_hash
    (tmp_path / "guides/assets.md").touch()
    assert scan_sources(tmp_path)[0][0].content_hash == before
    assert list_sources(tmp_path) == ["guides", "notes"]


def test_every_unusable_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    problems = {
        problem.uri.rsplit("/", 1)[-1]: problem.message for problem in scan_sources(fill(tmp_path))[1]
    }
    assert set(problems) == {"binary.md", "latin.md", "empty.md", "paper.pdf", "stray.md"}
    assert "binary" in problems["binary.md"]
    assert "save it as UTF-8" in problems["latin.md"]
    assert "delete the file" in problems["empty.md"]
    assert ".md or .txt" in problems["paper.pdf"]
    assert "move it into a folder" in problems["stray.md"]


def test_a_file_that_is_too_large_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "guides").mkdir()
    (tmp_path / "guides/big.md").write_bytes(b"x" * (MAX_BYTES + 1))
    documents, problems = scan_sources(tmp_path)
    assert not documents and "split it" in problems[0].message


def test_a_missing_folder_is_an_error_and_an_empty_one_is_empty(tmp_path: Path) -> None:
    with pytest.raises(KnowledgeError, match="create it"):
        scan_sources(tmp_path / "missing")
    assert scan_sources(tmp_path) == ([], [])


def test_pipes_broken_links_and_odd_names_are_problems_and_hang_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "guides"
    folder.mkdir()
    (folder / "good.md").write_text("# Good")
    os.mkfifo(folder / "pipe.md")
    (folder / "link.md").symlink_to(folder / "nowhere.md")
    (folder / os.fsdecode(b"\xff.md")).write_text("# Odd")
    (tmp_path / os.fsdecode(b"\xff beside.md")).write_text("# Odd")
    (tmp_path / "my docs").mkdir()
    (tmp_path / "publish").mkdir()
    documents, problems = scan_sources(tmp_path)
    assert [d.uri for d in documents] == ["knowledge://guides/good.md"]
    messages = {problem.uri: problem.message for problem in problems}
    assert "no regular file" in messages["knowledge://guides/pipe.md"]
    assert "no regular file" in messages["knowledge://guides/link.md"]
    assert "rename" in messages["knowledge://guides/\\udcff.md"]
    assert "move it" in messages["knowledge:///\\udcff beside.md"]
    assert "rename" in messages["knowledge://my docs"] and "rename" in messages["knowledge://publish"]
    assert list_sources(tmp_path) == ["guides"]


def test_a_link_out_of_its_source_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("root:x:0:0")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.md").write_text("# A")
    (tmp_path / "docs/b.md").symlink_to("a.md")
    (tmp_path / "docs/c.txt").symlink_to(tmp_path / "secret.txt")
    knowledge = tmp_path / "knowledge"
    knowledge.mkdir()
    (knowledge / "guides").symlink_to(tmp_path / "docs")  # a source may live elsewhere as a whole
    documents, problems = scan_sources(knowledge)
    assert [d.uri for d in documents] == ["knowledge://guides/a.md", "knowledge://guides/b.md"]
    assert [(p.uri, "link out" in p.message) for p in problems] == [("knowledge://guides/c.txt", True)]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "guides/closed").mkdir(parents=True)
    (tmp_path / "guides/good.md").write_text("# Good")
    close_folder(monkeypatch, "closed")
    documents, problems = scan_sources(tmp_path)
    assert [d.uri for d in documents] == ["knowledge://guides/good.md"]
    assert [problem.uri for problem in problems] == ["knowledge://guides/closed"]


def test_a_source_that_is_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "guides").symlink_to(tmp_path / "unmounted")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    documents, problems = scan_sources(tmp_path)
    assert documents == [] and list_sources(tmp_path) == []
    assert [problem.uri for problem in problems] == ["knowledge://guides", "knowledge://loop"]
    assert all("link to nothing" in problem.message for problem in problems)


def test_a_linked_folder_inside_a_source_is_named_whether_it_leads_somewhere_or_not(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.md").write_text("# A")
    guides = tmp_path / "knowledge/guides"
    guides.mkdir(parents=True)
    (guides / "good.md").write_text("# Good")
    (guides / "deep").symlink_to(tmp_path / "elsewhere")
    (guides / "v1.2").symlink_to(tmp_path / "nowhere")
    documents, problems = scan_sources(tmp_path / "knowledge")
    assert [d.uri for d in documents] == ["knowledge://guides/good.md"]
    messages = {problem.uri: problem.message for problem in problems}
    assert "not followed" in messages["knowledge://guides/deep"]
    assert "link to nothing" in messages["knowledge://guides/v1.2"]
