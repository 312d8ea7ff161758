"""`make down`: no process, no port, the data kept; `make up D=llm` starts that and what it needs."""

import pytest

from stack.ports import DEFAULT_PORTS
from tests.e2e.running_stack import is_free, wait_until

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def own_stack(stack) -> None:
    if not stack.started_here:
        pytest.skip("this stack belongs to someone else")


def assert_gone(stack) -> None:
    wait_until(lambda: not stack.processes(), timeout=20, what=f"end of {stack.processes()}")
    taken = [name for name, port in DEFAULT_PORTS.items() if not is_free(port + stack.port_offset)]
    assert not taken


def test_down_leaves_no_process_and_no_port_but_the_data(stack) -> None:
    stack.make("down", timeout=120)
    assert_gone(stack)
    assert stack.secret("admin_password")


def test_a_client_says_that_the_stack_is_down(stack) -> None:
    refused = stack.ghostwriter("write", "Anything", check=False, timeout=60)
    assert refused.returncode == 1
    assert "make up" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_one_deployment_starts_with_what_it_needs_and_nothing_else(stack) -> None:
    stack.make("up", "D=llm", timeout=300)
    states = {item["name"]: item["state"] for item in stack.ghostwriter("stack", "info")}
    assert states["llm"] == "ready"
    assert not is_free(stack.port("llm"))
    assert is_free(stack.port("ingest-api-server"))
    assert is_free(stack.port("serving"))
    stack.make("down", timeout=120)
    assert_gone(stack)
