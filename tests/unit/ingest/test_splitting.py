import pytest

from deployments.ingest.splitting import CHUNK_CHARACTERS, Section, find_title, is_markdown, split_text

MARKDOWN = "# Assets\n\nIntro.\n\n## Events\n\n" + "An event wakes a Dag. " * 60 + "\n\n### Extra\n\nMore."


def test_chunks_are_small_ordered_and_know_their_heading() -> None:
    sections = split_text(MARKDOWN, markdown=True)
    assert all(0 < len(section.text) <= CHUNK_CHARACTERS for section in sections)
    assert sections[0].text == "Intro." and sections[0].heading == ""
    assert {section.heading for section in sections} == {"", "Events", "Events › Extra"}
    assert sections == split_text(MARKDOWN, markdown=True)


def test_plain_text_is_split_by_size_alone() -> None:
    assert [s.text for s in split_text("# not a heading\none", markdown=False)] == ["# not a heading\none"]


def test_headings_alone_are_not_lost() -> None:
    assert [section.text for section in split_text("# Only a title", markdown=True)] == ["Only a title"]


def test_windows_line_ends_and_a_byte_order_mark_leave_no_trace() -> None:
    assert split_text("\ufeff# T\r\n\r\nBody.\r\n", markdown=True) == split_text(
        "# T\n\nBody.\n", markdown=True
    )


def test_a_title_is_the_first_heading_or_line() -> None:
    assert find_title("\n# Assets\n\nText", "file") == "Assets"
    assert find_title("First line\nsecond", "file") == "First line"
    assert find_title("# \n", "file") == "file"


CODE = "```python\ndef wait(seconds):\n    if seconds:\n\n        sleep(seconds)  # as long\n```"
LIST = "- a list\n  - an inner item\n    - one further in\n\n      with a paragraph of its own\n\n1. one\n   - two"
INDENTED = "    make up\n        make down"


@pytest.mark.parametrize("block", [CODE, LIST, INDENTED, CODE.replace("`", "~")])
@pytest.mark.parametrize("before", [0, 300, 480, 700])
def test_code_and_lists_that_fit_a_chunk_survive_byte_for_byte(block: str, before: int) -> None:
    intro = ("An intro of some words. " * 40)[:before].strip()
    sections = split_text(f"# T\n\n{intro}\n\n{block}\n\nThe end.\n", markdown=True)
    assert any(block in section.text for section in sections)
    assert all(len(section.text) <= CHUNK_CHARACTERS for section in sections)
    assert sections[-1].text.endswith("The end.")


def test_code_that_fits_no_chunk_keeps_its_lines_whole() -> None:
    lines = [f"{' ' * 4 * (number % 5)}call_{number:03}()" for number in range(100)]
    sections = split_text("# T\n\n```\n" + "\n".join(lines) + "\n```\n", markdown=True)
    found = [line for section in sections for line in section.text.split("\n")]
    assert set(lines) <= set(found)
    assert all(len(section.text) <= CHUNK_CHARACTERS for section in sections)


def test_a_comment_in_code_is_no_heading_and_an_underlined_line_is_one() -> None:
    sections = split_text("# T\n\n```sh\n# not a heading\n```\n\nPart\n----\n\nText.\n", markdown=True)
    assert [(s.heading, s.text) for s in sections] == [("", "```sh\n# not a heading\n```"), ("Part", "Text.")]


def test_no_text_is_lost_between_headings_and_blocks() -> None:
    text = "Before.\n\n# T\n[link]: http://x.example\n\n***\n#### Deep\n\n<!-- note -->\n\n| a | b |\n|---|---|\n"
    shown = "\n".join(section.text for section in split_text(text, markdown=True))
    for piece in (
        "Before.",
        "[link]: http://x.example",
        "***",
        "#### Deep",
        "<!-- note -->",
        "| a | b |\n|---|---|",
    ):
        assert piece in shown


YAML = "---\ntitle: 'Real: title'\ndate: 2026-99-99\ntags: [a, b]\n---\n"
TOML = '+++\ntitle = "Real: title"\ntags = ["a", "b"]\n+++\n'


@pytest.mark.parametrize("front", [YAML, TOML])
def test_front_matter_gives_the_title_and_is_no_text(front: str) -> None:
    text = f"\ufeff{front}\n# Heading\n\nText.\n".replace("\n", "\r\n")
    assert find_title(text, "stem") == "Real: title"
    (section,) = split_text(text, markdown=True)
    assert (section.heading, section.text) == ("Heading", "Text.")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("---\ntags: [a]\n---\n\nIntro.\n\n# Heading\n", "Heading"),
        ("---\ntags: [a]\n---\n", "stem"),
        ("---\ntitle: [a, b]\n---\n\nText.\n", "Text."),
        ("---\ntitle: 2026\n---\n", "2026"),
        ("---\n---\n\n## Heading\n", "Heading"),
        ("---\n\nA rule at the top.\n\n---\n", "A rule at the top."),
        ("---\ntitle: Assets: a guide\n---\n\n# Heading\n", "Assets: a guide"),
        ("---\ntags: {{ broken\n---\n\n# Heading\n", "Heading"),
        ('+++\ntitle = "Assets"\ndate = 2026-99-99\n+++\n\n# Heading\n', "Assets"),
        ('+++\ntitle = "Assets"\nnumber = ' + "1" * 5000 + "\n+++\n\n# Heading\n", "Assets"),
        ("---\ntitle: never closed\n", "title: never closed"),
        ("---\n", "stem"),
        ("```\n# comment\n```\n", "comment"),
    ],
)
def test_the_title_is_never_a_fence(text: str, title: str) -> None:
    assert find_title(text, "stem") == title


def test_what_is_no_front_matter_stays_in_the_text() -> None:
    for text in ("---\nA rule.\n---\n\nText.", "---\n: {broken\n---\n\nText.", "---\nname: open\n\nText."):
        first = text.split("\n")[1]
        sections = split_text(text, markdown=True)
        shown = [find_title(text, ""), *(f"{section.heading} {section.text}" for section in sections)]
        assert any(first in piece for piece in shown)
        assert sections[-1].text.endswith("Text.")


def test_a_document_of_front_matter_alone_is_still_found() -> None:
    assert [s.text for s in split_text("---\ntitle: Alone\n---\n", markdown=True)] == ["Alone"]


def test_plain_text_has_no_front_matter_and_keeps_its_indentation() -> None:
    text = "---\ntitle: x\n---\n  indented\n"
    assert [s.text for s in split_text(text, markdown=False)] == [text.rstrip()]
    assert find_title("# one\n\n# Two", "stem", markdown=False) == "# one"


def test_a_chunk_has_five_hundred_characters_and_plain_ones_overlap_by_fifty() -> None:
    text = "".join(chr(0x4E00 + number) for number in range(1_000))
    for markdown in (False, True):
        assert split_text(text[:500], markdown=markdown) == [Section("", text[:500])]
        assert split_text(text, markdown=markdown) == [
            Section("", text[:500]),
            Section("", text[450:950]),
            Section("", text[900:]),
        ]


def test_blocks_share_a_chunk_while_they_fit() -> None:
    first, second = "a" * 300, "b" * 198
    fits = f"{first}\n\n{second}"
    assert split_text(f"{fits}\n\nc", markdown=True) == [Section("", fits), Section("", "c")]
    assert split_text(f"{fits}b", markdown=True) == [Section("", first), Section("", f"{second}b")]


def test_headings_of_three_levels_part_a_document_and_deeper_ones_stay_in_the_text() -> None:
    text = "Intro.\n\n# T\n\n## A  one\nA.\n### B\nB.\n#### C\nC.\n## D\nD.\n### E\n\n# F\nF.\n\n"
    assert split_text(text, markdown=True) == [
        Section("", "Intro."),
        Section("A one", "A."),
        Section("A one › B", "B.\n#### C\nC."),
        Section("D", "D."),
        Section("F", "F."),
    ]


def test_a_title_is_cut_after_120_characters_and_its_blanks_are_single() -> None:
    assert find_title("# " + "x" * 121, "file") == "x" * 120
    assert find_title("# A \t B", "file") == "A B"
    assert find_title("...\n\n## \n\n  ## Title", "file") == "Title"
    assert find_title("***\n\n~~~\n", "file") == "file"
    assert find_title("...\n\n  First word\nsecond", "file", markdown=False) == "First word"


def test_a_heading_without_words_hides_neither_the_next_one_nor_the_text() -> None:
    assert find_title("# \n\n## Second\n", "file") == "Second"
    assert split_text("# One\n# Two", markdown=True) == [Section("", "One\nTwo")]
    assert split_text("", markdown=True) == split_text(" \n\t\n", markdown=False) == []


def test_the_suffix_tells_plain_text_from_markdown() -> None:
    assert [is_markdown(f"knowledge://a/{name}") for name in ("b.md", "b.markdown", "b.txt", "b.TXT")] == [
        True,
        True,
        False,
        False,
    ]


def test_old_line_ends_are_line_ends() -> None:
    assert split_text("# T\r\rOne\rtwo\r\nthree", markdown=True) == [Section("", "One\ntwo\nthree")]
    assert find_title("\ufeff\ufeffFirst\rsecond", "file", markdown=False) == "First"


def test_empty_front_matter_is_no_text_and_a_first_letter_is() -> None:
    for fence in ("---", "+++"):
        assert split_text(f"{fence}\n{fence}\n\nText.", markdown=True) == [Section("", "Text.")]
    assert split_text("XML.", markdown=True) == split_text("XML.", markdown=False) == [Section("", "XML.")]


def test_what_stands_before_the_first_block_and_a_spoilt_title_stay_as_they_are() -> None:
    link = "[link]: http://x.example"
    assert split_text(f"{link}\n\nText.", markdown=True) == [Section("", f"{link}\n\nText.")]
    assert split_text("\n \n  indented", markdown=False) == [Section("", "  indented")]
    assert find_title("---\n: {broken\n---\n\nText.", "file") == ": {broken"
    assert find_title("---\ntitle: 'X: one' of X\n---\n", "file") == "X: one' of X"
