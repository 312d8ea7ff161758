"""The sources as they are declared, and every mistake by its name."""

from pathlib import Path

import pytest

from deployments.ingest.declarations import (
    EVERY_SOURCE,
    REMOVAL_SHARE,
    find_gone,
    read_declarations,
    read_removal_share,
)
from deployments.ingest.model import Problem, Source
from shared.uploads import Uploads


class Content:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "sources.toml"
        self.knowledge = folder / "knowledge"
        self.knowledge.mkdir()
        self.uploads = Uploads(f"file:{folder}/uploads")

    def declare(self, text: str) -> None:
        self.file.write_text(text, encoding="utf-8")

    def add_folder(self, *names: str) -> None:
        for name in names:
            (self.knowledge / name).mkdir()

    def read(self) -> tuple[list[Source], list[Problem]]:
        return read_declarations(self.file, self.knowledge, self.uploads)

    def read_problems(self) -> dict[str, str]:
        return {problem.uri: problem.message for problem in self.read()[1]}


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return Content(tmp_path)


def test_folders_of_knowledge_need_no_entry(content: Content) -> None:
    content.add_folder("notes", "guides", ".git")
    assert content.read() == (
        [
            Source("guides", "folder", (("path", "knowledge/guides"),)),
            Source("notes", "folder", (("path", "knowledge/notes"),)),
        ],
        [],
    )


def test_declared_sources_stand_beside_them(content: Content) -> None:
    content.add_folder("guides")
    content.declare(
        """
        [[source]]
        name = "handbook"
        connector = "folder"
        path = "/srv/handbook"
        include = ["**/*.md"]
        exclude = ["drafts/**"]

        [removals]
        share = 0.2
        """
    )
    sources, problems = content.read()
    assert problems == [] and [source.name for source in sources] == ["guides", "handbook"]
    assert sources[1] == Source(
        "handbook", "folder",
        (("exclude", ["drafts/**"]), ("include", ["**/*.md"]), ("path", "/srv/handbook")),
    )  # fmt: skip
    assert read_removal_share(content.file) == 0.2


def test_uploads_are_a_source_once_there_are_any(content: Content) -> None:
    assert content.read() == ([], [])
    content.uploads.put("a.md", b"a", "ada")
    assert content.read() == ([Source("uploads", "uploads")], [])
    content.uploads.delete("a.md", "ada")
    assert content.read() == ([Source("uploads", "uploads")], [])
    content.add_folder("uploads")
    sources, problems = content.read()
    assert sources == [] and "another name" in problems[0].message


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('connector = "foldr"\npath = "x"', "there is no 'foldr'; did you mean folder?"),
        ('connector = "carrier-pigeon"', "there are folder, git"),
        ('path = "x"', "connector: there is no None"),
        ("connector = 5", "connector: there is no 5"),
        ('connector = "folder"', "path: Field required"),
        ('connector = "folder"\npath = ""', "path: "),
        ('connector = "folder"\npath = "x"\ninlcude = ["*"]', "inlcude: there is no such key; did you mean include?"),
        ('connector = "folder"\npath = "x"\ninclude = "*.md"', "include: "),
        ('connector = "folder"\npath = "x"\ninclude = ["a/**b"]', "is no pattern"),
        ('connector = "uploads"', "uploads need no entry"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_source_is_named_and_holds_up_no_other(
    content: Content, entry: str, said: str
) -> None:
    content.add_folder("guides")
    content.declare(f'[[source]]\nname = "bad"\n{entry}')
    sources, problems = content.read()
    assert [source.name for source in sources] == ["guides"]
    assert [problem.uri for problem in problems] == ["knowledge://bad"] and said in problems[0].message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[source]\n", "is no valid TOML"),
        ('[[sources]]\nname = "x"', "sources: there is no such key; did you mean source?"),
        ('[source]\nname = "x"', "in double brackets"),
        ("source = [1]", "in double brackets"),
        ('[[source]]\nconnector = "folder"\npath = "x"', "source 1: a source's name is made of"),
        ('[[source]]\nname = "a b"\nconnector = "folder"\npath = "x"', "source 1 'a b': a source's name"),
        ('[[source]]\nname = "../x"\nconnector = "folder"\npath = "x"', "source 1 '../x'"),
        ("[[source]]\nname = 5", "source 1 5"),
        ("[removals]\nshaer = 0.5", "did you mean share?"),
        ("[removals]\nshare = 5", "a number from 0 to 1"),
        ("[removals]\nshare = true", "a number from 0 to 1"),
        ("removals = 0.5", "is a table"),
    ],
)
def test_what_is_wrong_with_the_file_is_named_and_folders_are_still_read(
    content: Content, text: str, said: str
) -> None:
    content.add_folder("guides")
    content.declare(text)
    sources, problems = content.read()
    assert [source.name for source in sources] == ["guides"]
    assert [problem.uri for problem in problems] == [EVERY_SOURCE] and said in problems[0].message
    assert problems[0].message.startswith("sources.toml")
    assert read_removal_share(content.file) == REMOVAL_SHARE


def test_a_file_that_cannot_be_read_is_named(content: Content) -> None:
    content.file.write_bytes(b"\xff")
    assert "not UTF-8" in content.read_problems()[EVERY_SOURCE]
    content.file.unlink()
    content.file.symlink_to("nowhere.toml")
    assert "link to nothing" in content.read_problems()[EVERY_SOURCE]
    content.file.unlink()
    content.file.mkdir()
    assert "can't be read" in content.read_problems()[EVERY_SOURCE]


def test_of_two_sources_of_one_name_none_is_read(content: Content) -> None:
    """One's documents must not pass for the other's."""
    entry = '[[source]]\nname = "guides"\nconnector = "folder"\npath = "/srv/{}"\n'
    content.add_folder("notes")
    content.declare(entry.format("a") + entry.format("b") + entry.format("c"))
    sources, _ = content.read()
    assert [source.name for source in sources] == ["notes"]
    assert "two sources of this name" in content.read_problems()["knowledge://guides"]
    content.declare(entry.format("a"))
    content.add_folder("guides")
    sources, _ = content.read()
    assert [source.name for source in sources] == ["notes"]
    assert "there is a folder" in content.read_problems()["knowledge://guides"]


def test_what_lies_about_among_the_folders_is_named(content: Content) -> None:
    content.add_folder("guides", "my docs")
    (content.knowledge / "stray.md").write_text("# Stray")
    (content.knowledge / "lost").symlink_to("unmounted")
    (content.knowledge / "loop").symlink_to("loop")
    (content.knowledge / "a\nb").mkdir()
    said = content.read_problems()
    assert [source.name for source in content.read()[0]] == ["guides"]
    assert "rename the folder" in said["knowledge://my docs"] and "rename" in said["knowledge://a\\nb"]
    assert "move it into a folder" in said["knowledge:///stray.md"]
    assert "link to nothing" in said["knowledge://lost"] and "link to nothing" in said["knowledge://loop"]


def test_no_source_is_taken_for_gone_because_something_cannot_be_read(content: Content) -> None:
    known = ["guides", "handbook", "lost", "old"]
    content.add_folder("guides")
    content.declare('[[source]]\nname = "handbook"\nconnector = "foldr"')
    (content.knowledge / "lost").symlink_to("unmounted")
    (content.knowledge / "stray.md").write_text("# Stray")
    assert find_gone(known, *content.read()) == {"old"}
    content.declare("[[source]")
    assert find_gone(known, *content.read()) == set()
    content.file.unlink()
    (content.knowledge / "guides").rename(content.folder / "guides")
    assert find_gone(known, *content.read()) == {"guides", "handbook", "old"}
    content.knowledge.rename(content.folder / "elsewhere")
    assert find_gone(known, *content.read()) == set()
    assert "create it" in content.read_problems()[EVERY_SOURCE]
