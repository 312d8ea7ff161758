from deployments.ingest.splitting import CHUNK_CHARACTERS, find_title, split_text

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
