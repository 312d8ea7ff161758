"""What was done to one database counts for no other."""

from stack import driver
from stack.component import Component
from stack.config import StackConfig
from stack.stamps import adopt, get_stamp, write_identity

STEP = Component("step", ("true",), one_shot=True, stamp="code 1", database="ledger")


def finish(config: StackConfig, component: Component) -> None:
    get_stamp(config.state_dir, component.name, component.database).write_text(component.stamp)


def test_a_step_is_done_for_the_database_it_was_done_to(stack_config: StackConfig) -> None:
    write_identity(stack_config.state_dir, "ledger", "first")
    assert not driver.is_done(stack_config, STEP, None)
    finish(stack_config, STEP)
    assert driver.is_done(stack_config, STEP, None)
    write_identity(stack_config.state_dir, "ledger", "second")
    assert not driver.is_done(stack_config, STEP, None)
    write_identity(stack_config.state_dir, "ledger", "first")
    assert driver.is_done(stack_config, STEP, None)


def test_a_stamp_that_names_no_database_is_done_again(stack_config: StackConfig) -> None:
    """As an earlier version left it."""
    (stack_config.state_dir / "done").mkdir()
    (stack_config.state_dir / "done" / "step").write_text("code 1")
    write_identity(stack_config.state_dir, "ledger", "first")
    assert not driver.is_done(stack_config, STEP, None)


def test_an_adopted_stamp_counts_for_this_database_and_no_later_one(stack_config: StackConfig) -> None:
    state_dir = stack_config.state_dir
    get_stamp(state_dir, "ingest-unpaused").write_text("a_dag")
    write_identity(state_dir, "ingest", "first")
    assert adopt(state_dir, "ingest-unpaused", "ingest").read_text() == "a_dag"
    assert adopt(state_dir, "ingest-unpaused", "ingest").read_text() == "a_dag"
    write_identity(state_dir, "ingest", "second")
    assert not adopt(state_dir, "ingest-unpaused", "ingest").exists()
