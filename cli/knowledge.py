"""`ghostwriter knowledge`: what the posts are written from, and bringing it up to date.

It knows no document and no chunk; serving and the ingest deployment do.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.markup import escape

from cli.connection import Connection, get_connection
from cli.output import CommandError, JsonOption, print_json, print_table, show_progress
from cli.runs import Run, read_run, require_success, wait_for_new_runs
from shared import contracts

app = typer.Typer(help="The knowledge base.", no_args_is_help=True)
TimeoutOption = Annotated[float, typer.Option(min=1, help="Give up waiting after this many seconds.")]
APPEAR_WITHIN = 60.0
"""Seconds in which an event must have made a run; a scheduler that is just starting needs most of them."""


@app.command("status")
def show_status(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show what the knowledge base holds, and the files that can't be used."""
    knowledge = get_connection(ctx).serving.describe_knowledge()
    if as_json:
        print_json(knowledge)
        return
    print_knowledge(knowledge)
    print_problems(knowledge["problems"])


@app.command("sync")
def sync(
    ctx: typer.Context,
    wait: Annotated[bool, typer.Option(help="Wait for the ingest run, and say what changed.")] = True,
    timeout: TimeoutOption = 300,
    as_json: JsonOption = False,
) -> None:
    """Bring the knowledge base up to date with its sources."""
    connection = get_connection(ctx)
    if not wait:
        assets = connection.serving.sync_knowledge()["assets"]
        print_json({"assets": assets}) if as_json else typer.echo(
            f"Told ingest to look at {len(assets)} sources."
        )
        return
    before = connection.serving.describe_knowledge()
    runs = sync_and_wait(connection, timeout=timeout, quiet=as_json)
    after = connection.serving.describe_knowledge()
    changes = compare_knowledge(before, after)
    if as_json:
        print_json({"runs": [vars(run) for run in runs], "changed": changes, "knowledge": after})
        return
    print_changes(changes, before, after)
    print_problems(after["problems"])


@app.command("clear")
def clear(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    timeout: TimeoutOption = 300,
    as_json: JsonOption = False,
) -> None:
    """Remove every document from the knowledge base; the files stay, and `sync` brings them back."""
    connection = get_connection(ctx)
    seen = connection.serving.describe_knowledge()
    if not yes:
        typer.confirm(
            f"Remove every document ({seen['documents']}) from the knowledge base?", abort=True, err=True
        )
    known = list_known_runs(connection, contracts.CLEAR_DAG)
    # The run may wait longer than this command does: then it must not clear any more, nor what nobody has seen.
    before = datetime.now(UTC) + timedelta(seconds=timeout)
    conf = {contracts.CLEAR_BEFORE: before.isoformat(), contracts.CLEAR_VERSION: seen["version"]}
    with show_progress("Clearing the knowledge base", quiet=as_json) as say:
        # A paused Dag takes a run but never starts it.
        connection.ingest.unpause(contracts.CLEAR_DAG)
        try:
            run_id = connection.ingest.trigger(contracts.CLEAR_DAG, conf)
            try:
                runs = wait_for_new_runs(
                    lambda: connection.ingest.list_dag_runs(contracts.CLEAR_DAG),
                    known,
                    timeout=timeout,
                    appear_within=APPEAR_WITHIN,
                    say=say,
                )
            except CommandError as error:
                raise CommandError(
                    f"Not cleared after {timeout:.0f} s. A clearing that has not begun by now will not begin: "
                    "`ghostwriter knowledge status` shows what there is."
                ) from error
            finally:
                connection.ingest.withdraw(contracts.CLEAR_DAG, run_id)
        finally:
            connection.ingest.pause(contracts.CLEAR_DAG)
    require_success(runs, connection.settings.ingest_url, connection.ingest.explain_failure)
    knowledge = connection.serving.describe_knowledge()
    if as_json:
        print_json({"runs": [vars(run) for run in runs], "knowledge": knowledge})
        return
    typer.echo(
        f"Cleared: {knowledge['documents']} documents left. `ghostwriter knowledge sync` brings them back."
    )


def sync_and_wait(connection: Connection, *, timeout: float, quiet: bool = False) -> list[Run]:
    """Wake ingest and wait for the runs that this causes. Raises CommandError when one fails or none comes."""
    known = list_known_runs(connection, contracts.INGEST_DAG)
    with show_progress("Waking the ingest deployment", quiet=quiet) as say:
        connection.serving.sync_knowledge()
        runs = wait_for_new_runs(
            lambda: connection.ingest.list_dag_runs(contracts.INGEST_DAG),
            known,
            timeout=timeout,
            appear_within=min(APPEAR_WITHIN, timeout),
            say=say,
        )
    if not runs:
        raise CommandError(
            f"The ingest deployment started no run: is {contracts.INGEST_DAG} paused at "
            f"{connection.settings.ingest_url}? `ghostwriter stack status` shows its scheduler."
        )
    require_success(runs, connection.settings.ingest_url, connection.ingest.explain_failure)
    return runs


def list_known_runs(connection: Connection, dag_id: str) -> frozenset[str]:
    """Ids of the ingest runs there are."""
    return frozenset(read_run(raw).run_id for raw in connection.ingest.list_dag_runs(dag_id))


def compare_knowledge(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """Per source that changed: its documents and chunks before and after; empty when the version stayed."""
    if before["digest"] == after["digest"]:
        return []
    nothing = {"documents": 0, "chunks": 0, "changed": None}
    old = {item["source"]: item for item in before["sources"]}
    new = {item["source"]: item for item in after["sources"]}
    changes = []
    for source in sorted(old.keys() | new.keys()):
        was, now = old.get(source, nothing), new.get(source, nothing)
        if was == now:
            continue
        changes.append(
            {
                "source": source,
                "documents": [was["documents"], now["documents"]],
                "chunks": [was["chunks"], now["chunks"]],
            }
        )
    return changes


def print_knowledge(knowledge: dict[str, Any]) -> None:
    """A line in all, a row per source."""
    print_table(
        ["Source", "Documents", "Chunks", "Changed"],
        [
            (item["source"], item["documents"], item["chunks"], item["changed"])
            for item in knowledge["sources"]
        ],
    )
    last = knowledge["last_ingest"]
    when = f", from run {last['run']} at {last['at']}" if last else ""
    typer.echo(
        f"\nVersion {knowledge['version'] or '–'}: "
        f"{knowledge['documents']} documents, {knowledge['chunks']} chunks{when}"
    )


def print_problems(problems: list[dict[str, Any]]) -> None:
    """A row per file that can't be used; nothing where there is none."""
    if not problems:
        return
    count = "1 file" if len(problems) == 1 else f"{len(problems)} files"
    typer.echo(f"\n{count} can't be used. Mend or delete, then `ghostwriter knowledge sync`:")
    print_table(
        ["File", "What to do"],
        [(escape(problem["uri"]), escape(problem["message"])) for problem in problems],
    )


def print_changes(changes: list[dict[str, Any]], before: dict[str, Any], after: dict[str, Any]) -> None:
    """What a sync did."""
    if before["digest"] == after["digest"]:
        typer.echo(f"Nothing changed: version {after['version']} has {after['documents']} documents.")
        return
    print_table(
        ["Source", "Documents", "Chunks"],
        [
            (item["source"], " → ".join(map(str, item["documents"])), " → ".join(map(str, item["chunks"])))
            for item in changes
        ],
    )
    typer.echo(
        f"\nVersion {before['version'] or '–'} → {after['version'] or '–'}: {after['documents']} documents"
    )
