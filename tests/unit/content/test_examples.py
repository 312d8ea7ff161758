"""Parsing example files: the good shape, and the line each bad one is blamed on."""

from pathlib import Path

import pytest

from shared.examples import Example, ExampleError, load_examples, parse_example

PATH = Path("examples/train/a.md")


def test_topic_text_and_split() -> None:
    example = parse_example("---\ntopic: Assets: a start\n---\n\nHello  \nworld\n", PATH)
    assert example == Example(topic="Assets: a start", text="Hello\nworld", path=PATH, split="train")


def test_quotes_byte_order_mark_and_windows_line_ends_are_taken() -> None:
    example = parse_example(
        "\ufeff---\r\ntopic: 'Assets'\r\n---\r\nHello\r\n", Path("examples/holdout/2026/a.md")
    )
    assert (example.topic, example.text, example.split) == ("Assets", "Hello", "holdout")


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("", 1, "no front matter"),
        ("Hello", 1, "no front matter"),
        ("---\ntopic: a\nHello", 1, "never closed"),
        ("---\n---\nHello", 1, "no topic"),
        ("---\ntopic:\n---\nHello", 2, "topic is empty"),
        ("---\ntopic: a\ntopic: b\n---\nHello", 3, "a second 'topic'"),
        ("---\n\ntopic: a\nauthor: b\n---\nHello", 4, "unknown key 'author'"),
        ("---\ntopic\n---\nHello", 2, "is not 'key: value'"),
        ("---\ntopic: a\n---\n \n", 3, "the post is empty"),
        ("---\ntopic: a\n---\nHel\0lo", 3, "NUL"),
    ],
)
def test_a_bad_file_is_blamed_on_its_line(text: str, line: int, expected: str) -> None:
    with pytest.raises(ExampleError) as caught:
        parse_example(text, PATH)
    assert caught.value.line == line
    assert expected in caught.value.message
    assert str(caught.value).startswith(f"{PATH}:{line}: ")


def test_a_file_outside_every_split_is_refused() -> None:
    with pytest.raises(ExampleError, match="train, validation, holdout"):
        parse_example("---\ntopic: a\n---\nHello", Path("examples/a.md"))


def test_one_bad_file_does_not_hide_the_good_ones(tmp_path: Path) -> None:
    train = tmp_path / "train"
    train.mkdir()
    (train / "good.md").write_text("---\ntopic: a\n---\nHello", encoding="utf-8")
    (train / "latin.md").write_bytes("---\ntopic: a\n---\nGrüße".encode("latin-1"))
    (train / "post.docx").write_bytes(b"PK")
    (train / ".DS_Store").write_bytes(b"\xff")
    examples, errors = load_examples(tmp_path)
    assert [example.path.name for example in examples] == ["good.md"]
    assert [(error.path.name, error.line) for error in errors] == [("latin.md", 4), ("post.docx", 1)]
    assert "save the file as UTF-8" in errors[0].message


def test_a_missing_or_empty_folder_has_no_examples(tmp_path: Path) -> None:
    assert load_examples(tmp_path) == ([], [])
    assert load_examples(tmp_path / "nowhere") == ([], [])
