import json

import pytest

from deployments.ingest.formats.ipynb import NotebookExtractor
from deployments.ingest.formats.port import UnreadableError
from tests.unit.ingest.formats.samples import make_ipynb


def test_cells_are_markdown_and_code_and_of_outputs_only_text_is_shown() -> None:
    text = NotebookExtractor().extract(make_ipynb(), "a.ipynb").text
    assert "````python\nprint('```')\n````" in text
    assert "<Figure>" in text and "ValueError: no" in text and "aGk=" not in text
    assert "xxx\n…\n````" in text and text.count("x") < 2_100


def test_notebooks_of_the_third_format_are_read() -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Events"]},
        {"cell_type": "code", "input": "run()", "outputs": [{"output_type": "stream", "text": "done"}]},
    ]
    content = json.dumps({"nbformat": 3, "metadata": {}, "worksheets": [{"cells": cells}]}).encode()
    found = NotebookExtractor().extract(content, "a.ipynb")
    assert found.title == "Events" and found.text == "## Events\n\n```\nrun()\n```\n\n```\ndone\n```"


@pytest.mark.parametrize(
    "content",
    [b"[]", b"{}", b'{"cells": 1}', b'{"cells": [1]}', b"[" * 100_000, b'{"cells": "abc"}', b"words"],
)
def test_what_is_no_notebook_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadableError, match="notebook"):
        NotebookExtractor().extract(content, "a.ipynb")


def test_half_a_character_does_no_harm() -> None:
    content = b'{"cells": [{"cell_type": "markdown", "source": "word \\ud800"}]}'
    assert NotebookExtractor().extract(content, "a.ipynb").text == "word \ufffd"
