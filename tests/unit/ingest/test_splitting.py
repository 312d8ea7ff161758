from pathlib import Path

import pytest

from deployments.ingest.formats.markdown import MarkdownExtractor
from deployments.ingest.model import Extraction, Passage
from deployments.ingest.splitting import CHUNK_CHARACTERS, split

TEXT = "# Assets\n\nIntro.\n\n## Events\n\n" + "An event wakes a Dag. " * 60 + "\n\n### Extra\n\nMore."


def split_markdown(text: str) -> list[Passage]:
    """The passages of a Markdown document, each checked against the text that it is from."""
    return check_spans(MarkdownExtractor().extract(text.encode(), "a.md"))


def split_plain(text: str) -> list[Passage]:
    return check_spans(Extraction(text, markdown=False, title=""))


def check_spans(extraction: Extraction) -> list[Passage]:
    passages = split(extraction)
    assert all(extraction.text[p.start : p.end] == p.text for p in passages)
    assert all(len(p.text) <= CHUNK_CHARACTERS and any(map(str.isalnum, p.text)) for p in passages)
    assert [p.start for p in passages] == sorted({p.start for p in passages})
    return passages


def show(passages: list[Passage]) -> list[tuple[str, str]]:
    return [(" › ".join(passage.headings), passage.text) for passage in passages]


def test_passages_are_small_ordered_and_know_their_headings() -> None:
    passages = split_markdown(TEXT)
    assert show(passages)[0] == ("", "Intro.")
    assert {passage.headings for passage in passages} == {(), ("Events",), ("Events", "Extra")}
    assert passages == split_markdown(TEXT)


def test_plain_text_has_no_headings() -> None:
    assert show(split_plain("# not a heading\none")) == [("", "# not a heading\none")]


def test_headings_alone_are_not_lost() -> None:
    assert show(split_markdown("# One\n# Two")) == [("", "# One\n# Two")]


def test_a_document_of_front_matter_alone_is_still_found() -> None:
    assert show(split_markdown("---\ntitle: Alone\n---\n")) == [("", "Alone")]


CODE = "```python\ndef wait(seconds):\n    if seconds:\n\n        sleep(seconds)  # as long\n```"
LIST = "- a list\n  - an inner item\n    - one further in\n\n      with a paragraph of its own\n\n1. one\n   - two"
INDENTED = "    make up\n        make down"
TABLE = "| name | does |\n|---|:-:|\n| up | starts |\n| down | stops |"


@pytest.mark.parametrize("block", [CODE, LIST, INDENTED, TABLE, CODE.replace("`", "~")])
@pytest.mark.parametrize("before", [0, 300, 480, 700])
def test_code_lists_and_tables_that_fit_a_passage_survive_byte_for_byte(block: str, before: int) -> None:
    intro = ("An intro of some words. " * 40)[:before].strip()
    passages = split_markdown(f"# T\n\n{intro}\n\n{block}\n\nThe end.\n")
    assert any(block in passage.text for passage in passages)
    assert passages[-1].text.endswith("The end.")


def test_code_that_fits_no_passage_keeps_its_lines_whole() -> None:
    lines = [f"{' ' * 4 * (number % 5)}call_{number:03}()" for number in range(100)]
    passages = split_markdown("# T\n\n```\n" + "\n".join(lines) + "\n```\n")
    assert set(lines) <= {line for passage in passages for line in passage.text.split("\n")}


def test_a_long_table_is_cut_between_rows_and_its_columns_are_named_with_every_piece() -> None:
    rows = [f"| asset {number:03} | wakes a Dag |" for number in range(60)]
    head = "| Name  | What it does |\n|---|---|"
    passages = split_markdown(f"# T\n\n## List\n\n{head}\n" + "\n".join(rows) + "\n\nThe end.\n")
    assert passages[0].text.startswith(head) and passages[0].headings == ("List",)
    assert {p.headings for p in passages[1:-1]} == {("List", "Name | What it does")}
    assert passages[-1] == Passage("The end.", ("List",), passages[-1].start, passages[-1].end)
    shown = "\n".join(passage.text for passage in passages[:-1])
    assert shown == f"{head}\n" + "\n".join(rows)
    assert all(len(p.text) > CHUNK_CHARACTERS - 40 for p in passages[:-2])


def test_a_row_that_fits_no_passage_is_cut_by_size() -> None:
    passages = split_markdown(
        "# T\n\n| a | b |\n|---|---|\n| " + "long words " * 100 + "| end |\n| x | y |\n"
    )
    assert passages[0].text == "| a | b |\n|---|---|" and passages[-1].text.endswith("| x | y |")
    assert len(passages) > 3


def test_a_comment_in_code_is_no_heading_and_an_underlined_line_is_one() -> None:
    passages = split_markdown("# T\n\n```sh\n# not a heading\n```\n\nPart\n----\n\nText.\n")
    assert show(passages) == [("", "```sh\n# not a heading\n```"), ("Part", "Text.")]


def test_no_text_is_lost_between_headings_and_blocks() -> None:
    text = "Before.\n\n# T\n[link]: http://x.example\n\n***\n#### Deep\n\n<!-- note -->\n\n| a | b |\n|---|---|\n"
    shown = "\n".join(passage.text for passage in split_markdown(text))
    for piece in (
        "Before.",
        "[link]: http://x.example",
        "***",
        "#### Deep",
        "<!-- note -->",
        "| a | b |\n|---|---|",
    ):
        assert piece in shown


def test_a_passage_without_a_word_is_none() -> None:
    assert show(split_markdown("Intro.\n\n# A\n\n***\n\n# B\n\nText.")) == [("", "Intro."), ("B", "Text.")]
    assert split_plain("- - -\n" * 200 + "\nword") == [Passage("word", (), 1201, 1205)]


def test_plain_text_keeps_its_indentation() -> None:
    text = "---\ntitle: x\n---\n  indented\n"
    assert show(split_plain(text)) == [("", text.rstrip())]
    assert show(split_plain("\n \n  indented")) == [("", "  indented")]


def test_a_passage_has_five_hundred_characters_and_those_of_a_longer_block_overlap_by_fifty() -> None:
    text = "".join(chr(0x4E00 + number) for number in range(1_000))
    for take in (split_plain, split_markdown):
        assert [p.text for p in take(text[:500])] == [text[:500]]
        assert [(p.start, p.end) for p in take(text)] == [(0, 500), (450, 950), (900, 1000)]


@pytest.mark.parametrize("take", [split_plain, split_markdown])
def test_blocks_share_a_passage_while_they_fit(take) -> None:
    first, second = "a" * 300, "b" * 198
    fits = f"{first}\n\n{second}"
    assert [p.text for p in take(f"{fits}\n\nc")] == [fits, "c"]
    assert [p.text for p in take(f"{fits}b")] == [first, f"{second}b"]


def test_headings_of_three_levels_part_a_document_and_deeper_ones_stay_in_the_text() -> None:
    text = "Intro.\n\n# T\n\n## A  one\nA.\n### B\nB.\n#### C\nC.\n## D\nD.\n### E\n\n# F\nF.\n\n"
    assert show(split_markdown(text)) == [
        ("", "Intro."),
        ("A one", "A."),
        ("A one › B", "B.\n#### C\nC."),
        ("D", "D."),
        ("F", "F."),
    ]


def test_a_heading_reads_without_its_marks() -> None:
    text = "# T\n\n## The **big** `asset_of_mine` and [a link](http://x.example) {#anchor}\n\nText."
    assert show(split_markdown(text)) == [("The big asset_of_mine and a link", "Text.")]


def test_what_stands_before_the_first_block_stays_with_it() -> None:
    link = "[link]: http://x.example"
    assert show(split_markdown(f"{link}\n\nText.")) == [("", f"{link}\n\nText.")]


def test_a_passage_knows_the_page_on_which_it_begins() -> None:
    pages = ["One. " * 150, "Two.", "Three."]
    text = "\n\n".join(pages)
    starts = (0, len(pages[0]) + 2, len(pages[0]) + 2 + len(pages[1]) + 2)
    passages = check_spans_of_pages(Extraction(text, markdown=False, title="", pages=starts))
    assert [page for _, page in passages] == [1, 1, 2]
    assert passages[-1] == ("Two.\n\nThree.", 2)


def check_spans_of_pages(extraction: Extraction) -> list[tuple[str, int | None]]:
    return [(passage.text, passage.page) for passage in check_spans(extraction)]


ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/**/*.md")), ids=lambda path: path.name)
def test_passages_of_real_documents_are_what_stands_in_them_and_miss_headings_alone(path: Path) -> None:
    extraction = MarkdownExtractor().extract(path.read_bytes(), path.name)
    covered = 0
    for passage in check_spans(extraction):
        between = extraction.text[covered : passage.start].strip().split("\n")
        assert all(line.startswith("#") or not any(map(str.isalnum, line)) for line in between)
        covered = max(covered, passage.end)
    assert not any(map(str.isalnum, extraction.text[covered:]))


DEGENERATE = {
    "one line without blanks": "x" * 1_000_000,
    "one line of words": "word " * 200_000,
    "nested quotes": ">" * 1_000_000 + "a",
    "nested lists": "- " * 500_000 + "a",
    "many short items": "- a\n" * 300_000,
    "many headings": "# a\n\nb\n\n" * 20_000,
    "an open fence": "```\n" + "code\n" * 100_000,
    "a long table": "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 50_000,
    "blank lines": "a" + "\n" * 1_000_000 + "b",
    "blanks": "a" + " " * 1_000_000 + "b",
}


@pytest.mark.parametrize("text", DEGENERATE.values(), ids=DEGENERATE)
def test_no_document_takes_long_and_every_word_of_it_is_in_a_passage(text: str) -> None:
    extraction = Extraction(text, markdown=True, title="")
    covered = 0
    for passage in check_spans(extraction):
        gap = text[covered : passage.start]
        assert "# " in gap or not any(map(str.isalnum, gap))
        covered = max(covered, passage.end)
    assert not any(map(str.isalnum, text[covered:]))
