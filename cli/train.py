"""`ghostwriter train`: wakes the training deployment and shows where it is.

It knows no example, job or score; the training deployment does.
"""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

import typer

from cli.connection import Connection, get_connection
from cli.knowledge import APPEAR_WITHIN
from cli.models import describe_version
from cli.output import CommandError, JsonOption, Progress, print_json, print_table, show_progress
from cli.runs import Run, read_run, require_success, wait_for_new_runs
from cli.training_progress import require_no_blocker
from shared import contracts

app = typer.Typer(help="The training pipeline.", no_args_is_help=True)
CHAIN = (contracts.PREPARE_DAG, contracts.FINE_TUNE_DAG, contracts.PROMOTE_DAG)
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
    """Tell the training deployment that the examples changed."""
    connection = get_connection(ctx)
    known = {dag_id: list_known(connection, dag_id) for dag_id in CHAIN}
    key = uuid4().hex
    connection.training.post_asset_event(
        contracts.EXAMPLES_ASSET,
        {contracts.IDEMPOTENCY_KEY: key, "asked_at": datetime.now(UTC).isoformat(timespec="seconds")},
    )
    answer: dict[str, Any] = {"asset": contracts.EXAMPLES_ASSET, contracts.IDEMPOTENCY_KEY: key}
    if not wait:
        print_json(answer) if as_json else typer.echo(
            "Training is awake. `ghostwriter train status` follows it."
        )
        return
    with show_progress("Waking the training deployment", quiet=as_json) as say:
        runs = wait_for_chain(connection, known, timeout=timeout, say=say)
    require_success(runs, connection.settings.training_url, connection.training.explain_failure)
    require_no_blocker(connection.training, runs)
    if as_json:
        print_json(answer | {"runs": [vars(run) for run in runs]} | describe_training(connection))
        return
    reached = runs[-1].dag_id
    typer.echo("Decided." if reached == contracts.PROMOTE_DAG else f"Nothing is due after {reached}.")
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
            (run["dag_id"], run["state"], _shorten(run["start"]), _shorten(run["end"]), run["run_id"])
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


def wait_for_chain(
    connection: Connection, known: dict[str, frozenset[str]], *, timeout: float, say: Progress
) -> list[Run]:
    """The runs of each Dag of the chain, up to where nothing more is due or one failed."""
    reached: list[Run] = []
    for dag_id in CHAIN:
        runs = wait_for_new_runs(
            lambda dag_id=dag_id: connection.training.list_dag_runs(dag_id),  # type: ignore[misc]
            known[dag_id],
            timeout=timeout,
            appear_within=NEXT_WITHIN if reached else APPEAR_WITHIN,
            say=say,
        )
        if not runs and not reached:
            raise CommandError(
                f"The training deployment started no run: is {dag_id} paused at "
                f"{connection.settings.training_url}? `ghostwriter stack status` shows its scheduler."
            )
        reached += runs
        if not runs or any(run.state == "failed" for run in runs):
            break
    return reached


def list_known(connection: Connection, dag_id: str) -> frozenset[str]:
    """Ids of the training runs there are."""
    return frozenset(read_run(raw).run_id for raw in connection.training.list_dag_runs(dag_id))


def _print_champion(connection: Connection) -> None:
    for alias in (contracts.CHAMPION_ALIAS, contracts.CHALLENGER_ALIAS):
        version = connection.registry.get_by_alias(alias)
        typer.echo(f"{alias}: {f'version {version.version}' if version else 'none'}")


def _shorten(stamp: str | None) -> str:
    return stamp[:19].replace("T", " ") if stamp else "–"
