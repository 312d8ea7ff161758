"""`ghostwriter train`: wakes the training deployment and shows where it is.

It knows no example, job or score; the training deployment does.
"""

from typing import Annotated, Any

import typer

from cli.connection import Connection, get_connection
from cli.knowledge import APPEAR_WITHIN
from cli.models import describe_version
from cli.output import CommandError, JsonOption, Progress, print_json, print_table, show_progress
from cli.runs import Run, read_run, read_run_ids, require_success, wait_for_new_runs
from cli.training_progress import explain_end, require_no_blocker
from shared import contracts
from shared.times import show_time

app = typer.Typer(help="The training pipeline.", no_args_is_help=True)
CHAIN = (contracts.PREPARE_DAG, contracts.FINE_TUNE_DAG, contracts.PROMOTE_DAG)
FIRST = (contracts.START_TRAINING_DAG, contracts.PREPARE_DAG)
"""These always run."""
NEXT_WITHIN = 20.0
"""Seconds in which a finished Dag must have woken the next one; later means that nothing was due."""
SHOWN_RUNS = 10


@app.command("start")
def start(
    ctx: typer.Context,
    wait: Annotated[bool, typer.Option(help="Wait until there is a decision, or nothing is due.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Give up waiting after this many seconds.")] = 1800,
    as_json: JsonOption = False,
) -> None:
    """Train now: what is due, and once more what failed, was cancelled or is not at the provider any more."""
    connection = get_connection(ctx)
    known = {
        dag_id: read_run_ids(connection.training.list_dag_runs(dag_id))
        for dag_id in (contracts.START_TRAINING_DAG, *CHAIN)
    }
    run_id = connection.training.trigger(contracts.START_TRAINING_DAG)
    answer: dict[str, Any] = {"dag_id": contracts.START_TRAINING_DAG, "run_id": run_id}
    if not wait:
        print_json(answer) if as_json else typer.echo(
            "Training is awake; a job that failed, was cancelled or lost its model is tried again. "
            "`ghostwriter train status` follows it."
        )
        return
    with show_progress("Waking the training deployment", quiet=as_json) as say:
        runs = wait_for_chain(connection, known, timeout=timeout, say=say)
    require_success(runs, connection.settings.training_url, connection.training.explain_failure)
    outcome = describe_reached(connection, runs[-1])
    if as_json:
        told = {"outcome": outcome, "runs": [vars(run) for run in runs]}
        print_json(answer | told | describe_training(connection))
        return
    typer.echo(outcome)
    _print_champion(connection)


@app.command("status")
def show_status(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show the latest Dag runs, the champion and the challenger."""
    connection = get_connection(ctx)
    status = describe_training(connection)
    if as_json:
        print_json(status)
        return
    print_table(
        ["Dag", "State", "Start", "End", "Run"],
        [
            (run["dag_id"], run["state"], show_time(run["start"]), show_time(run["end"]), run["run_id"])
            for run in status["dag_runs"]
        ],
        wide=True,
    )
    typer.echo()
    _print_champion(connection)


def describe_training(connection: Connection) -> dict[str, Any]:
    """The keys that programs may rely on: dag_runs (newest first), champion, challenger."""
    runs = [
        read_run(raw)
        for dag_id in contracts.TRAINING_DAGS
        for raw in connection.training.list_dag_runs(dag_id)
    ]
    runs.sort(key=lambda run: run.start or "9999", reverse=True)
    champion = connection.registry.get_by_alias(contracts.CHAMPION_ALIAS)
    challenger = connection.registry.get_by_alias(contracts.CHALLENGER_ALIAS)
    return {
        "dag_runs": [vars(run) for run in runs[:SHOWN_RUNS]],
        "champion": describe_version(champion) if champion else None,
        "challenger": describe_version(challenger) if challenger else None,
    }


def describe_reached(connection: Connection, last: Run) -> str:
    """What came of it, by the run that ended last."""
    if last.dag_id == contracts.PROMOTE_DAG:
        return "Decided."
    return explain_end(connection.training, last) or (
        f"{last.dag_id} is done, but the next Dag has not started yet: is it paused at "
        f"{connection.settings.training_url}? `ghostwriter train status` follows it."
    )


def wait_for_chain(
    connection: Connection, known: dict[str, frozenset[str]], *, timeout: float, say: Progress
) -> list[Run]:
    """The start's run and those of each Dag of the chain, up to where nothing more is due or one failed.

    Raises CommandError where nothing could be trained.
    """
    reached: list[Run] = []
    for dag_id in known:
        runs = wait_for_new_runs(
            lambda dag_id=dag_id: connection.training.list_dag_runs(dag_id),  # type: ignore[misc]
            known[dag_id],
            timeout=timeout,
            appear_within=APPEAR_WITHIN if dag_id in FIRST else NEXT_WITHIN,
            say=say,
        )
        if not runs and dag_id in FIRST:
            raise CommandError(
                f"The training deployment started no run: is {dag_id} paused at "
                f"{connection.settings.training_url}? `ghostwriter stack status` shows its scheduler."
            )
        reached += runs
        if (
            not runs
            or any(run.state == "failed" for run in runs)
            or explain_end(connection.training, runs[-1])
        ):
            break
        require_no_blocker(connection.training, runs)
    return reached


def _print_champion(connection: Connection) -> None:
    for alias in (contracts.CHAMPION_ALIAS, contracts.CHALLENGER_ALIAS):
        version = connection.registry.get_by_alias(alias)
        typer.echo(f"{alias}: {f'version {version.version}' if version else 'none'}")
