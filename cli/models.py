"""`ghostwriter models`: the registered versions.

It knows no training; the registry has the answers.
"""

from typing import Annotated, Any

import typer

from cli.connection import get_connection
from cli.output import CommandError, JsonOption, print_json, print_table
from shared.registry.port import ModelVersion
from shared.times import show_time, write_time

app = typer.Typer(help="The models and what they scored.", no_args_is_help=True)


@app.command("list")
def list_models(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the versions, newest first."""
    versions = get_connection(ctx).registry.list_versions()
    if as_json:
        print_json([describe_version(version) for version in versions])
        return
    if not versions:
        typer.echo("No model yet. `ghostwriter train status` shows what is on its way.")
        return
    print_table(
        ["Version", "Aliases", "Training set", "Scores", "Created"],
        [
            (
                version.version,
                ", ".join(version.aliases),
                version.training_set[:12],
                _describe_scores(version),
                show_time(version.created, seconds=False),
            )
            for version in versions
        ],
    )


@app.command("show")
def show_model(
    ctx: typer.Context,
    version: Annotated[str, typer.Argument(help="A version number.")],
    as_json: JsonOption = False,
) -> None:
    """Show one version."""
    found = get_connection(ctx).registry.get_version(version)
    if found is None:
        raise CommandError(
            f"There is no version {version!r}: `ghostwriter models list` shows which there are."
        )
    shown = describe_version(found) | {
        "model_id": found.model_id,
        "job_id": found.job_id,
        "run_id": found.run_id,
    }
    if as_json:
        print_json(shown)
        return
    shown |= {
        "aliases": ", ".join(found.aliases),
        "scores": _describe_scores(found),
        "created": show_time(found.created),
    }
    print_table(["", ""], [(name.replace("_", " "), value) for name, value in shown.items()])


def describe_version(version: ModelVersion) -> dict[str, Any]:
    """The keys that programs may rely on."""
    return {
        "version": version.version,
        "aliases": list(version.aliases),
        "training_set": version.training_set,
        "scores": dict(version.scores),
        "created": write_time(version.created),
    }


def _describe_scores(version: ModelVersion) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in sorted(version.scores.items()))
