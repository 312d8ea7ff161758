"""`ghostwriter demo`: the point of it all in one go, on the running system.

It knows no rule; it watches, writes, audits, edits a document and puts it back.
"""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.columns import Columns
from rich.markup import escape
from rich.panel import Panel

from cli.audit import print_chain, select_chain
from cli.connection import Connection, get_connection
from cli.document_edit import edit_document, restore_document
from cli.knowledge import sync_and_wait
from cli.output import CommandError, JsonOption, Progress, print_json, show_progress, stdout_console
from cli.train import CHAIN
from cli.training_progress import describe_progress
from cli.write import describe_model, print_post, select_post
from shared import contracts
from shared.voice import load_voice

FACT_TOPIC = "Lantern mode in Ghostwriter"
FACT = b"""

## Lantern mode in Ghostwriter

Lantern mode in Ghostwriter was switched on by this demo: it keeps exactly 47 lanterns lit while a post is written.
"""
POLL_SECONDS = 2.0
SYNC_SECONDS = 300.0
IDLE_SECONDS = 120.0
"""The pipeline has ended for good when nothing has run for this long."""


def demo(
    ctx: typer.Context,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the first champion.")] = 1200,
    as_json: JsonOption = False,
) -> None:
    """Wait for the first champion, compare it with the base model, audit a post, and edit a document."""
    connection = get_connection(ctx)
    say = (lambda _title: None) if as_json else _print_title
    repair(connection, quiet=as_json)

    say("1. The first champion")
    with show_progress("Waiting for the first champion", quiet=as_json) as progress:
        version = wait_for_champion(connection, timeout=timeout, say=progress)
    if not as_json:
        typer.echo(f"Version {version} is the champion.")

    topic = load_voice(connection.settings.content_dir / "voice.toml").topics.suggested[0]
    say(f"2. One topic, two models: {topic}")
    with show_progress("Writing with the base model", quiet=as_json):
        base = connection.serving.write(topic, contracts.BASE_ALIAS)
    with show_progress("Writing with the champion", quiet=as_json):
        champion = connection.serving.write(topic, contracts.CHAMPION_ALIAS)
    if not as_json:
        _print_side_by_side(base, champion)

    say("3. Where the champion's post came from")
    chain = connection.serving.audit(champion["post_id"])
    if not as_json:
        print_chain(chain)

    document = choose_document(connection.settings.content_dir)
    say(f"4. A new fact in {document.name}")
    if not as_json:
        typer.echo(f"Added to it for a moment: {FACT.decode().split(chr(10))[-2]}")
    fresh, digest = write_with_new_fact(connection, document, quiet=as_json)
    if not as_json:
        print_post(fresh)
        typer.echo(
            f"\nThe post cites {document.name} as it was with the new fact (content {digest[:12]}); "
            "the file is as it was before, and so is the knowledge base."
        )
        return
    print_json(
        {
            "champion": version,
            "base_post": select_post(base),
            "champion_post": select_post(champion),
            "audit": select_chain(chain),
            "fact_post": select_post(fresh),
            "fact_content_hash": digest,
        }
    )


def repair(connection: Connection, *, quiet: bool) -> None:
    """Put back the document of a demo that was killed, and its chunks."""
    restored = restore_document(connection.settings.state_dir)
    if restored is not None:
        if not quiet:
            typer.echo(f"An earlier demo was stopped: {restored.name} is as it was.", err=True)
        sync_and_wait(connection, timeout=SYNC_SECONDS, quiet=quiet)


def wait_for_champion(
    connection: Connection, *, timeout: float, say: Progress, poll_seconds: float = POLL_SECONDS
) -> str:
    """The champion's version. Raises CommandError when training ended without one, failed, or takes too long."""
    started = time.monotonic()
    idle_since: float | None = None
    while True:
        champion = connection.registry.get_by_alias(contracts.CHAMPION_ALIAS)
        if champion is not None:
            return champion.version
        progress = describe_progress(connection.training, CHAIN, connection.list_jobs)
        elapsed = time.monotonic() - started
        say(f"{progress.text} · {elapsed:.0f} s")
        if progress.failed:
            raise CommandError(
                f"{progress.failed} failed: see {connection.settings.training_url}, "
                "then `ghostwriter train start`."
            )
        if progress.decided:
            # The alias is set before the run ends: look once more before giving up.
            if connection.registry.get_by_alias(contracts.CHAMPION_ALIAS) is not None:
                continue
            raise CommandError(
                "Training ended without a champion: the challenger was not shown to be better than the base model. "
                "`ghostwriter train status` has the runs, MLflow the scores."
            )
        idle_since = (idle_since or elapsed) if progress.idle_after else None
        if idle_since is not None and elapsed - idle_since >= IDLE_SECONDS:
            raise CommandError(
                f"Training ended with {progress.idle_after}, without a model. {progress.text}."
            )
        if elapsed >= timeout:
            raise CommandError(
                f"No champion after {timeout:.0f} s ({progress.text}): `ghostwriter train status` shows more."
            )
        time.sleep(poll_seconds)


def choose_document(content_dir: Path) -> Path:
    """The document to edit: the first Markdown file of the knowledge folder."""
    documents = sorted((content_dir / "knowledge").glob("*/*.md"))
    if not documents:
        raise CommandError(f"There is no Markdown document in {content_dir / 'knowledge'} to edit.")
    return documents[0]


def write_with_new_fact(connection: Connection, document: Path, *, quiet: bool) -> tuple[dict[str, Any], str]:
    """A post that cites the edited document, and the edited document's sha256; file and chunks are put back."""
    uri = contracts.document_uri(document.parent.name, document.name)
    try:
        with edit_document(document, FACT, connection.settings.state_dir) as digest:
            sync_and_wait(connection, timeout=SYNC_SECONDS, quiet=quiet)
            with show_progress("Writing about the new fact", quiet=quiet):
                post = connection.serving.write(FACT_TOPIC, contracts.CHAMPION_ALIAS)
            cited = {
                (source["uri"], source["content_hash"])
                for source in connection.serving.audit(post["post_id"])["sources"]
            }
            if (uri, digest) not in cited:
                raise CommandError(
                    f"The post does not cite the edited {uri}: `ghostwriter knowledge status`."
                )
    except BaseException:
        # Stopped or failed: the file is back already; its chunks follow without anyone waiting for them.
        connection.serving.sync_knowledge()
        raise
    sync_and_wait(connection, timeout=SYNC_SECONDS, quiet=quiet)
    return post, digest


def _print_title(title: str) -> None:
    console = stdout_console()
    console.print()
    console.rule(f"[bold]{escape(title)}[/]", align="left")


def _print_side_by_side(base: dict[str, Any], champion: dict[str, Any]) -> None:
    console = stdout_console()
    width = max(40, (console.width - 4) // 2)
    console.print(
        Columns(
            [
                Panel(escape(post["text"]), title=escape(describe_model(post["model"])), width=width)
                for post in (base, champion)
            ]
        )
    )
    titles = dict.fromkeys(f"{source['title']} ({source['uri']})" for source in champion["sources"])
    for title in titles:
        console.print(f"  [dim]source[/] {escape(title)}")
