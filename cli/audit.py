"""`ghostwriter audit`: walks from a post to everything behind it.

It knows no ledger; serving answers.
"""

from collections import Counter
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.tree import Tree

from cli.connection import get_connection
from cli.output import JsonOption, print_json, stdout_console
from shared.examples import SPLITS

app = typer.Typer(help="Say where a post came from.", no_args_is_help=True)


@app.callback()
def audit() -> None:
    """Say where a post came from."""


@app.command("post")
def audit_post(
    ctx: typer.Context,
    post_id: Annotated[str, typer.Argument(help="As `ghostwriter write` prints it.")],
    as_json: JsonOption = False,
) -> None:
    """Walk from a post to its model, training set, documents and runs."""
    chain = get_connection(ctx).serving.audit(post_id)
    if as_json:
        print_json(select_chain(chain))
        return
    print_chain(chain)


def select_chain(chain: dict[str, Any]) -> dict[str, Any]:
    """The keys that programs may rely on."""
    return {
        "post_id": chain["post_id"],
        "model": {key: chain["model"][key] for key in ("version", "training_set", "job_id", "run_id")},
        "sources": [
            {key: source[key] for key in ("uri", "content_hash", "ingest_run")} for source in chain["sources"]
        ],
    }


def print_chain(chain: dict[str, Any]) -> None:
    """The chain as a tree."""
    tree = Tree(f"[bold]post {escape(chain['post_id'])}[/]")
    model = chain["model"]
    if model["version"] is None:
        tree.add("model: the base model; no training of ours stands behind it")
    else:
        branch = tree.add(f"model version {model['version']}")
        training_set = branch.add(f"training set {_shorten(model['training_set'])}")
        examples = model.get("examples") or []
        if examples:
            counts = Counter(str(example["split"]) for example in examples)
            learnt = next((item for item in examples if item["split"] == "train"), examples[0])
            parts = ", ".join(f"{counts[split]} {split}" for split in SPLITS if counts[split])
            training_set.add(f"{parts}; e.g. {escape(str(learnt['path']))}")
        branch.add(f"fine-tuning job {escape(str(model['job_id']))}")
        branch.add(f"MLflow run {escape(str(model['run_id']))}")
    sources = tree.add(f"{len(chain['sources'])} sources")
    for source in chain["sources"]:
        document = sources.add(f"{escape(source['uri'])} · content {_shorten(source['content_hash'])}")
        document.add(f"ingest run {escape(str(source['ingest_run']))}")
    for note in chain.get("notes", []):
        tree.add(f"[yellow]{escape(note)}[/]")
    stdout_console().print(tree)


def _shorten(digest: str | None) -> str:
    return digest[:12] if digest else "–"
