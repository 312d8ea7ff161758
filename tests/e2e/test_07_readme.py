"""Every command of the README that a shell can run, in its order."""

import re
import shlex

import pytest

from tests.e2e.running_stack import ROOT

pytestmark = pytest.mark.timeout(1500)

README = (ROOT / "README.md").read_text()
# They run this very suite, or end it; test_09_down has the latter.
ELSEWHERE = {"make test", "make down"}


def read_commands() -> list[str]:
    blocks = re.findall(r"^```(?:bash|sh)\n(.*?)^```", README, flags=re.M | re.S)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


COMMANDS = read_commands()


def test_the_readme_names_the_commands_that_matter() -> None:
    assert {"make up", "make demo", "make test", "make status", "make down"} <= set(COMMANDS)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in ELSEWHERE])
def test_command(stack, command: str) -> None:
    done = stack.execute(*shlex.split(command), timeout=1400)
    assert done.stdout.strip() or done.stderr.strip()


def test_the_demo_left_the_documents_as_they_were(stack) -> None:
    for path in (stack.content_dir / "knowledge").rglob("*.md"):
        assert "Lantern mode" not in path.read_text(), path
