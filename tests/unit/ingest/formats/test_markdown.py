from datetime import date

import pytest

from deployments.ingest.formats.markdown import MarkdownExtractor
from deployments.ingest.model import Extraction

YAML = "---\ntitle: 'Real: title'\ndate: 2026-99-99\ntags: [a, b]\n---\n"
TOML = '+++\ntitle = "Real: title"\ntags = ["a", "b"]\n+++\n'


def extract(text: str) -> Extraction:
    return MarkdownExtractor().extract(text.encode(), "stem.md")


@pytest.mark.parametrize("front", [YAML, TOML])
def test_front_matter_gives_the_title_and_is_no_text(front: str) -> None:
    found = extract(f"\ufeff{front}\n# Heading\n\nText.\n".replace("\n", "\r\n"))
    assert (found.title, found.text) == ("Real: title", "\n# Heading\n\nText.\n")


@pytest.mark.parametrize(
    "front",
    [
        "---\nAuthor: Ada Lovelace\ndate: 2026-11-24T09:00:00Z\nlang: pt-BR\n---\n",
        '+++\nauthors = ["Ada Lovelace"]\ndate = 2026-11-24\nlanguage = "pt"\n+++\n',
        "---\nauthors:\n- name: Ada Lovelace\npublished: 24.11.2026 or 2026/11/24\nlang: PT\n---\n",
    ],
)
def test_front_matter_says_who_wrote_it_when_and_in_which_language(front: str) -> None:
    found = extract(f"{front}\nText.\n")
    assert (found.author, found.dated, found.language) == ("Ada Lovelace", date(2026, 11, 24), "pt")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("\n# Assets\n\nText", "Assets"),
        ("First line\nsecond", "First line"),
        ("---\ntags: [a]\n---\n\nIntro.\n\n# Heading\n", "Heading"),
        ("---\ntitle: [a, b]\n---\n\nText.\n", "Text."),
        ("---\ntitle: 2026\n---\n", "2026"),
        ("---\n---\n\n## Heading\n", "Heading"),
        ("---\n\nA rule at the top.\n\n---\n", "A rule at the top."),
        ("---\ntitle: Assets: a guide\n---\n\n# Heading\n", "Assets: a guide"),
        ("---\ntags: {{ broken\n---\n\n# Heading\n", "Heading"),
        ('+++\ntitle = "Assets"\ndate = 2026-99-99\n+++\n\n# Heading\n', "Assets"),
        ('+++\ntitle = "Assets"\nnumber = ' + "1" * 5000 + "\n+++\n\n# Heading\n", "Assets"),
        ("---\ntitle: never closed\n", "title: never closed"),
        ("---\n: {broken\n---\n\nText.", ": {broken"),
        ("---\ntitle: 'X: one' of X\n---\n", "X: one' of X"),
        ("```\n# comment\n```\n", "comment"),
        ("# \n\n## Second\n", "Second"),
        ("# A \t `b_c` [d](e)", "A b_c d"),
        ("...\n\n## \n\n  ## Title", "Title"),
        ("# " + "x" * 121, "x" * 120),
        ("\ufeff\ufeffFirst\rsecond", "First"),
    ],
)
def test_the_title_is_what_a_reader_would_say(text: str, title: str) -> None:
    assert extract(text).title == title


@pytest.mark.parametrize(
    "text",
    ["---\nA rule.\n---\n\nText.", "---\n: {broken\n---\n\nText.", "---\nname: open\n\nText.", "Text."],
)
def test_what_is_no_front_matter_stays_in_the_text(text: str) -> None:
    assert extract(text).text == text


def test_empty_front_matter_is_no_text() -> None:
    assert [extract(f"{fence}\n{fence}\n\nText.").text for fence in ("---", "+++")] == ["\nText."] * 2


def test_aliases_that_multiply_in_front_matter_cost_nothing() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    found = extract("---\ntitle: T\n" + "\n".join(lines) + "\nauthor: *a59\n---\nText.")
    assert (found.title, found.author) == ("T", "")
