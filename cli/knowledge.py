"""`ghostwriter knowledge`: what the posts are written from, and bringing it up to date.

It knows no document and no chunk; serving and the ingest deployment do.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.markup import escape

from cli.connection import Connection, get_connection
from cli.ingest_progress import IngestProgress
from cli.output import CommandError, JsonOption, print_json, print_table, show_progress
from cli.runs import Run, follow_run, read_run_ids, require_success, wait_for_new_runs
from shared import contracts
from shared.times import show_time

app = typer.Typer(help="The knowledge base.", no_args_is_help=True)
APPEAR_WITHIN = 60.0
"""Seconds in which a run must have begun; a scheduler that is just starting needs most of them."""
INTERRUPTED = 130


@app.command("status")
def show_status(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show what the knowledge base holds, and the files that can't be used."""
    knowledge = get_connection(ctx).serving.describe_knowledge()
    if as_json:
        print_json(knowledge)
        return
    print_knowledge(knowledge)
    print_problems(knowledge)


@app.command("sync")
def sync(
    ctx: typer.Context,
    wait: Annotated[bool, typer.Option(help="Wait for the ingest run, and say what changed.")] = True,
    accept_removals: Annotated[
        bool,
        typer.Option("--accept-removals", help="Remove the documents that `knowledge status` says are gone."),
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=1, help="Stop watching after this many seconds; the run goes on.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the knowledge base up to date with its sources."""
    connection = get_connection(ctx)
    before = connection.serving.describe_knowledge()
    accept = [removal["digest"] for removal in before["removals"]] if accept_removals else []
    if accept and not as_json:
        typer.echo("Accepted:")
        _print_rows("Source", before["removals"])
    if not wait:
        started = connection.serving.sync_knowledge(accept)
        print_json(started) if as_json else typer.echo(
            f"Ingest looks at its sources in the run {started['run']}."
        )
        return
    runs = sync_and_wait(connection, timeout=timeout, accept=accept, quiet=as_json)
    after = connection.serving.describe_knowledge()
    changes = compare_knowledge(before, after)
    if as_json:
        print_json({"runs": [vars(run) for run in runs], "changed": changes, "knowledge": after})
    else:
        print_changes(changes, before, after)
        print_problems(after)
    if accept_removals and after["removals"]:
        raise CommandError(
            "The run found other removals than those that were known: nothing of them was removed. Look at "
            "`ghostwriter knowledge status`, then `ghostwriter knowledge sync --accept-removals` again."
        )


@app.command("clear")
def clear(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Give up waiting after this many seconds.")] = 300,
    as_json: JsonOption = False,
) -> None:
    """Remove every document from the knowledge base; the files stay, and `sync` brings them back."""
    connection = get_connection(ctx)
    seen = connection.serving.describe_knowledge()
    if not yes:
        typer.confirm(
            f"Remove every document ({seen['documents']}) from the knowledge base?", abort=True, err=True
        )
    known = read_run_ids(connection.ingest.list_dag_runs(contracts.CLEAR_DAG))
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


def sync_and_wait(
    connection: Connection, *, timeout: float | None, accept: Sequence[str] = (), quiet: bool = False
) -> list[Run]:
    """Start one run of ingest and follow it to its end. Raises CommandError when it fails or does not begin."""
    url = connection.settings.ingest_url.rstrip("/")
    with show_progress("Asking ingest to look at its sources", quiet=quiet) as say:
        run_id = str(connection.serving.sync_knowledge(accept)["run"])
        try:
            run = follow_run(
                run_id,
                lambda: connection.ingest.list_dag_runs(contracts.INGEST_DAG),
                IngestProgress(connection.ingest, run_id).describe,
                timeout=timeout,
                appear_within=APPEAR_WITHIN if timeout is None else min(APPEAR_WITHIN, timeout),
                say=say,
            )
        except KeyboardInterrupt:
            raise CommandError(
                f"Stopped watching; the run goes on: {url}/dags/{contracts.INGEST_DAG}/runs/{run_id}",
                exit_code=INTERRUPTED,
            ) from None
    if run is None:
        raise CommandError(
            f"The ingest deployment started no run: is {contracts.INGEST_DAG} paused at {url}? "
            "`ghostwriter stack status` shows its scheduler."
        )
    require_success([run], url, connection.ingest.explain_failure)
    return [run]


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
            (item["source"], item["documents"], item["chunks"], show_time(item["changed"]))
            for item in knowledge["sources"]
        ],
    )
    change, last = knowledge["last_change"], knowledge["last_ingest"]
    when = f", from run {change['run']} at {show_time(change['at'])}" if change else ""
    typer.echo(
        f"\nVersion {knowledge['version'] or '–'}: "
        f"{knowledge['documents']} documents, {knowledge['chunks']} chunks{when}"
    )
    if last:
        typer.echo(f"Last ingestion: run {last['run']}, {last['state']}, at {show_time(last['at'])}")
    for note in knowledge["notes"]:
        typer.echo(note)


def print_problems(knowledge: dict[str, Any]) -> None:
    """A row per file that can't be used, and per removal that waits; nothing where there is none."""
    waiting = {(removal["uri"], removal["message"]) for removal in knowledge["removals"]}
    files = [item for item in knowledge["problems"] if (item["uri"], item["message"]) not in waiting]
    if files:
        count = "1 file" if len(files) == 1 else f"{len(files)} files"
        typer.echo(f"\n{count} can't be used. Mend or delete, then `ghostwriter knowledge sync`:")
        _print_rows("File", files)
    if waiting:
        typer.echo("\nPut the files back, or `ghostwriter knowledge sync --accept-removals`:")
        _print_rows("Source", knowledge["removals"])


def _print_rows(head: str, problems: Sequence[dict[str, Any]]) -> None:
    print_table(
        [head, "What to do"],
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
