"""What a user is told to set is what the stack reads."""

import re
from pathlib import Path

import pytest

from deployments.llm.settings import LlmSettings
from stack.config import PASSED_ON, ROOT, load_config

EXAMPLE = (ROOT / ".env.example").read_text()
OFFERED = re.findall(r"^# ([A-Z][A-Z0-9_]+)=", EXAMPLE, flags=re.M)
LLM_SETTINGS = {
    name
    for field, info in LlmSettings.model_fields.items()
    for name in (f"GHOSTWRITER_{field.upper()}", *getattr(info.validation_alias, "choices", ()))
    if name.startswith("GHOSTWRITER_LLM_")
}


@pytest.mark.parametrize("variable", OFFERED)
def test_each_setting_of_the_example_is_read(tmp_path: Path, variable: str) -> None:
    assert load_config({variable: "1234"}, tmp_path) != load_config({}, tmp_path)


def test_the_example_offers_all_that_components_are_told() -> None:
    assert set(PASSED_ON) <= set(OFFERED)


def test_the_example_offers_no_setting_of_the_llm_server_that_it_lacks() -> None:
    offered = {name for name in OFFERED if name.startswith("GHOSTWRITER_LLM_")}
    assert offered - set(PASSED_ON) <= LLM_SETTINGS


def test_documents_name_no_setting_of_the_desk_that_nothing_passes_on() -> None:
    texts = "".join(path.read_text() for path in [ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")])
    named = set(re.findall(r"GHOSTWRITER_(?:SERVING|LLM|MAX)_[A-Z0-9_]*[A-Z0-9]", texts))
    named -= {"GHOSTWRITER_LLM_API_KEY"}  # a secret: from its file alone
    assert named - LLM_SETTINGS <= set(PASSED_ON)


def test_the_llm_servers_own_settings_are_told_to_it_alone(tmp_path: Path) -> None:
    given = {
        "GHOSTWRITER_LLM_THREADS": "3",
        "GHOSTWRITER_LLM_PORT": "1",
        "GHOSTWRITER_LLM_API_KEY": "hidden",
        "GHOSTWRITER_LLM_MAX_MODEL_LEN": "4096",
    }
    config = load_config(given, tmp_path)
    assert config.llm_settings == {"GHOSTWRITER_LLM_THREADS": "3"}
    assert config.overrides == {"GHOSTWRITER_LLM_MAX_MODEL_LEN": "4096"}
