import pytest

from deployments.ingest.formats.html import HtmlExtractor
from deployments.ingest.formats.port import UnreadableError
from deployments.ingest.model import Extraction
from tests.unit.ingest.formats.samples import HTML


def extract(markup: str | bytes) -> Extraction:
    return HtmlExtractor().extract(markup if isinstance(markup, bytes) else markup.encode(), "a.html")


def test_a_page_is_its_main_content_as_markdown() -> None:
    text = extract(HTML).text
    for kept in (
        "# Assets\n\n## Events\n\n",
        "[the guide](https://example.org/events) or another page.",
        "```python\ndef run():\n    asset_of_mine = 1\n```",
        "a diagram",
        "| name | does |\n| --- | --- |\n| up | starts |",
    ):
        assert kept in text
    for left_out in (
        "Site name",
        "Home",
        "Related",
        "Company",
        "track()",
        "color",
        "hidden",
        "¶",
        "base64",
        "other.html",
    ):
        assert left_out not in text


def test_a_page_without_a_marked_main_part_loses_what_is_around_it() -> None:
    text = extract(
        "<body><div class='navbar top'>Menu</div><div role=banner>Logo</div><p>What it says.</p>"
        "<div id=footer>Imprint</div><p hidden>secret</p></body>"
    ).text
    assert text == "What it says."


def test_an_articles_own_header_stays_and_several_articles_all_do() -> None:
    assert "When" in extract("<article><header><h1>T</h1>When</header>Text</article>").text
    assert extract("<main></main><article>One</article><article>Two</article>").text.split() == ["One", "Two"]


def test_a_page_of_nothing_but_what_is_around_pages_is_kept() -> None:
    assert extract("<header><h1>All there is</h1></header>").text == "# All there is"


@pytest.mark.parametrize(
    ("markup", "title"),
    [
        ("<title> A\n title </title><h1>Heading</h1>", "A title"),
        ("<title></title><h1>Heading</h1>", "Heading"),
        ("<p>text</p>", ""),
    ],
)
def test_the_title_is_the_pages_or_its_first_heading(markup: str, title: str) -> None:
    assert extract(markup).title == title


def test_the_encoding_is_the_one_that_the_page_names() -> None:
    page = "<meta charset='iso-8859-2'><p>Zażółć gęślą jaźń i jeszcze kilka słów</p>".encode("iso-8859-2")
    found = extract(page)
    assert found.text.startswith("Zażółć") and found.notes == ("read as ISO8859-2",)


def test_entities_of_a_page_are_not_resolved() -> None:
    text = extract('<!DOCTYPE html [<!ENTITY x SYSTEM "file:///etc/passwd">]><p>&x; end</p>').text
    assert "root:" not in text and "end" in text


@pytest.mark.parametrize(
    "markup",
    [
        "<div>" * 50_000 + "word",
        "<b>" * 20_000 + "word" + "</b>" * 20_000,
        "<table><tr><td>" * 5_000 + "word",
        "<ul><li>" * 5_000 + "word",
        "<header>" * 10_000 + "word",
        "<ol>" + "<li>word" * 20_000,
        "<table><thead>" + "<tr><th>word" * 10_000,
        "<table>" + "<tr><td colspan=999>word" * 5_000,
        "<ol start=" + "9" * 5_000 + "><li>word",
        "<pre>word" + "\n" * 1_000_000 + "word",
        "word<!--" * 100_000,
    ],
)
def test_pages_made_to_be_hard_are_read(markup: str) -> None:
    text = extract(markup).text
    assert "word" in text and len(text) < 1_500_000


def test_a_page_of_too_many_tags_is_refused() -> None:
    with pytest.raises(UnreadableError, match="tags: split it"):
        extract("<p>" * 600_001 + "word")


def test_a_table_that_lays_out_the_page_is_none() -> None:
    text = extract(
        "<table><tr><td><table><tr><td>Menu</td></tr></table></td><td><h1>Events</h1><p>They wake Dags.</p>"
        "<pre>run()\nagain()</pre><table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table></td></tr></table>"
    ).text
    assert (
        "\n# Events\n\nThey wake Dags.\n\n```\nrun()\nagain()\n```\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"
        in text
    )


@pytest.mark.parametrize("mark", ["#", "¶", "§"])
def test_a_headings_link_to_itself_is_no_part_of_it(mark: str) -> None:
    assert extract(f"<h2>Events<a href='#events'>{mark}</a></h2><p>Text</p>").text == "## Events\n\nText"


def test_a_page_that_is_also_xml_or_like_a_files_name_gives_no_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    page = f'<?xml version="1.0"?><!-- {"long " * 200} --><html xmlns="http://www.w3.org/1999/xhtml"><body><p>Text</p></body></html>'
    assert extract(page).text == "Text" and extract("name.html").text == "name.html"
    assert not recwarn.list


def test_a_table_of_one_column_is_none() -> None:
    text = extract(
        "<table><tr><td>Links</td></tr><tr><td><ul><li>one</li><li>two</li></ul></td></tr></table>"
    ).text
    assert text == "Links\n\n- one\n- two"
