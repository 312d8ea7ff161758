"""`ghostwriter write`: asks the running front end for a post.

It knows no prompt and no model; serving does.
"""

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.panel import Panel

from cli.connection import get_connection
from cli.output import CommandError, JsonOption, print_json, print_table, show_progress, stdout_console
from cli.serving import NothingAnswersError


def write(
    ctx: typer.Context,
    topic: Annotated[str, typer.Argument(help="What the post is about.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="champion, base, challenger or a version number.")
    ] = "champion",
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Write although nothing in the knowledge answers the topic.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a post and show its sources."""
    connection = get_connection(ctx)
    with show_progress(f"Writing with the {model} model", quiet=as_json):
        try:
            post = connection.serving.write(topic, model, anyway=anyway)
        except NothingAnswersError as error:
            raise CommandError(f"{error} --anyway writes from that.") from error
    if post["note"]:
        typer.echo(post["note"], err=True)
    if as_json:
        print_json(select_post(post))
        return
    print_post(post)


def select_post(post: dict[str, Any]) -> dict[str, Any]:
    """The keys that programs may rely on."""
    return {
        "post_id": post["post_id"],
        "text": post["text"],
        "model": {key: post["model"][key] for key in ("name", "version", "alias")},
        "prompt_version": post["prompt_version"],
        "sources": [
            {key: source[key] for key in ("uri", "title", "chunk_id", "score")} for source in post["sources"]
        ],
        "seconds": post["seconds"],
    }


def describe_model(model: dict[str, Any]) -> str:
    """`ghostwriter version 3 (champion)`."""
    version = f" version {model['version']}" if model["version"] else ""
    alias = f" ({model['alias']})" if model["alias"] else ""
    return f"{model['name']}{version}{alias}"


def print_post(post: dict[str, Any]) -> None:
    """The post in a frame, its sources below."""
    console = stdout_console()
    subtitle = f"{describe_model(post['model'])} · {post['seconds']:.1f} s"
    console.print(Panel(escape(post["text"]), subtitle=escape(subtitle), padding=(1, 2)))
    print_table(
        ["#", "Source", "Title", "Score"],
        [
            (rank, escape(source["uri"]), escape(source["title"]), f"{source['score']:.3f}")
            for rank, source in enumerate(post["sources"], start=1)
        ],
    )
    console.print(f"\n[dim]ghostwriter audit post {escape(post['post_id'])}[/]")
