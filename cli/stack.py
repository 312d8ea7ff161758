"""`ghostwriter stack`: what `make up`, `make status` and so on do, as commands.

It knows no component; the `stack` package does.
"""

import os
import subprocess
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cli.output import CommandError, JsonOption, print_json, print_table
from stack import operations
from stack.config import ROOT, StackConfig, load_config
from stack.state_folder import check_removable

app = typer.Typer(help="The local stack: start, look at and stop it.", no_args_is_help=True)
FINE = frozenset({"ready", "unavailable", "external"})
DeploymentOption = Annotated[
    str | None, typer.Option("--deployment", "-d", help="Only ingest, training, llm, serving or lineage.")
]


@app.command("up")
def up(deployment: DeploymentOption = None, as_json: JsonOption = False) -> None:
    """Start everything that is not up, in the order of what needs what."""
    _make("up", *([f"D={deployment}"] if deployment else []), as_json=as_json)
    if as_json:
        print_json(operations.info(_load_config()))


@app.command("down")
def down(as_json: JsonOption = False) -> None:
    """Stop everything; the data stays."""
    _make("down", as_json=as_json)
    if as_json:
        print_json({"stopped": True})


@app.command("clean")
def clean(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False, as_json: JsonOption = False
) -> None:
    """Stop everything and remove all data; asks first."""
    config = _load_config()
    try:
        check_removable(config)
    except ValueError as error:
        raise CommandError(str(error)) from error
    if not yes:
        typer.confirm(f"Remove all data in {config.state_dir}?", abort=True, err=True)
    _make("clean", as_json=as_json, YES="1")
    if as_json:
        print_json({"removed": str(config.state_dir)})


@app.command("status")
def status(as_json: JsonOption = False) -> None:
    """Show the state of each component; no success unless all are ready."""
    rows = operations.status(_load_config())
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        print_table(
            ["Component", "State", "PID", "Address"],
            [
                (row.name, row.state, row.pid or None, " · ".join(filter(None, (row.url, row.detail))))
                for row in rows
            ],
            wide=True,
        )
    if not rows:
        raise CommandError("The stack was never started here: make up")
    waiting = [f"{row.name} {row.state}" for row in rows if row.state not in FINE]
    if waiting:
        raise CommandError(f"Not ready: {', '.join(waiting)}. make up")


@app.command("info")
def info(as_json: JsonOption = False) -> None:
    """Show the address, user and password file of each component."""
    components = operations.info(_load_config())
    if as_json:
        print_json(components)
        return
    print_table(
        ["Component", "State", "Address", "User", "Password or key in"],
        [
            (item["name"], item["state"], item["url"], item["user"], _get_credential_file(item))
            for item in components
        ],
        wide=True,
    )


@app.command("logs")
def logs(
    name: Annotated[
        str | None, typer.Argument(help="A component; a few lines of all of them without.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the last lines of the logs."""
    try:
        lines = operations.logs(_load_config(), name, follow and not as_json)
        if as_json:
            print_json(list(lines))
            return
        for line in lines:
            typer.echo(line)
    except ValueError as error:
        raise CommandError(str(error)) from error


def _get_credential_file(item: dict[str, Any]) -> str:
    return str(item.get("api_key_file") or item.get("password_file") or "")


def _load_config() -> StackConfig:
    try:
        return load_config()
    except ValueError as error:
        raise CommandError(str(error)) from error


def _make(*arguments: str, as_json: bool, **environment: str) -> None:
    """`make` in the checkout: it installs what is missing first, and says itself what went wrong."""
    if not (ROOT / "Makefile").is_file():
        raise CommandError(f"There is no checkout at {ROOT}: start the stack from one.")
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=sys.stderr if as_json else None,
        check=False,
    )
    if done.returncode:
        raise CommandError(f"make {' '.join(arguments)} failed.", exit_code=done.returncode)
