"""The port plan: defaults, the offset, single settings, and settings that cannot work."""

import pytest

from stack.ports import DEFAULT_PORTS, PortError, plan_ports


def test_defaults() -> None:
    assert plan_ports({}) == dict(DEFAULT_PORTS)


def test_offset_moves_all_but_the_ports_that_are_set() -> None:
    ports = plan_ports({"PORT_OFFSET": "100", "LLM_PORT": "9999"})
    assert ports["LLM_PORT"] == 9999
    assert ports["POSTGRES_PORT"] == DEFAULT_PORTS["POSTGRES_PORT"] + 100


def test_two_stacks_at_an_offset_of_100_share_no_port() -> None:
    assert not set(plan_ports({}).values()) & set(plan_ports({"PORT_OFFSET": "100"}).values())


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"LLM_PORT": "eight"}, "LLM_PORT"),
        ({"PORT_OFFSET": "60000"}, "PORT_OFFSET"),
        ({"LLM_PORT": "70000"}, "LLM_PORT"),
        ({"LLM_PORT": "5001"}, "MLFLOW_PORT and LLM_PORT"),
    ],
)
def test_the_message_names_the_setting(environ: dict[str, str], named: str) -> None:
    with pytest.raises(PortError, match=named):
        plan_ports(environ)
