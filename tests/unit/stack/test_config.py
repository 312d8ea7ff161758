"""What a user is told to set is what the stack reads."""

import re
from pathlib import Path

import pytest

from stack.config import PASSED_ON, ROOT, load_config

EXAMPLE = (ROOT / ".env.example").read_text()
OFFERED = re.findall(r"^# ([A-Z][A-Z0-9_]+)=", EXAMPLE, flags=re.M)


@pytest.mark.parametrize("variable", OFFERED)
def test_each_setting_of_the_example_is_read(tmp_path: Path, variable: str) -> None:
    assert load_config({variable: "1234"}, tmp_path) != load_config({}, tmp_path)


def test_the_example_offers_all_that_components_are_told() -> None:
    assert set(PASSED_ON) <= set(OFFERED)


def test_documents_name_no_setting_of_the_desk_that_nothing_passes_on() -> None:
    texts = "".join(path.read_text() for path in [ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")])
    named = set(re.findall(r"GHOSTWRITER_(?:SERVING|LLM|MAX)_[A-Z_]*[A-Z]", texts))
    assert named - {"GHOSTWRITER_LLM_API_KEY"} <= set(PASSED_ON)  # a secret: from its file alone
