"""Pieces of HTML for the pages: sources, the line on the model, the audit chain, tables.

It knows no Gradio; every value is escaped here and nowhere else.
"""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from shared.times import show_time

EXCERPT_CHARACTERS = 280


def show_note(text: str, kind: str = "info") -> str:
    """A boxed remark; `kind` is info or warning."""
    return f'<div class="gw-note gw-{kind}">{escape(text)}</div>'


def show_sources(sources: Sequence[dict[str, Any]]) -> str:
    """Cards of the sources, best first; each has title, uri, score and text."""
    if not sources:
        return '<p class="gw-quiet">The sources that a post is written from appear here.</p>'
    return "".join(_show_source(rank, source) for rank, source in enumerate(sources, 1))


def _show_source(rank: int, source: dict[str, Any]) -> str:
    text = " ".join(source["text"].split())
    excerpt = text[:EXCERPT_CHARACTERS] + ("…" if len(text) > EXCERPT_CHARACTERS else "")
    return (
        f'<article class="gw-card gw-source"><header><span class="gw-rank">{rank}</span>'
        f"<strong>{escape(source['title'])}</strong>"
        f'<span class="gw-badge" title="Search score">{source["score"]:.2f}</span></header>'
        f"<p>{escape(excerpt)}</p><code>{escape(source['uri'])}</code></article>"
    )


def show_model(
    model: dict[str, Any], prompt_version: str, seconds: float | None = None, post_id: str = ""
) -> str:
    """One line: model, prompt, time, post id."""
    parts = [_badge(name_model(model)), f"prompt <code>{escape(prompt_version)}</code>"]
    if seconds is not None:
        parts.append(f"{seconds:.1f} s")
    if post_id:
        parts.append(f'post <code class="gw-post-id">{escape(post_id)}</code>')
    return f'<div class="gw-line">{" · ".join(parts)}</div>'


def show_chat(messages: Sequence[tuple[str, str]]) -> str:
    """Bubbles of who ("user" or "assistant") said what: plain text, its lines kept, nothing in it obeyed."""
    if not messages:
        return (
            '<div class="gw-chat gw-empty"><h3>What should the post be about?</h3>'
            "<p>Type a topic below, or take one of the suggestions.</p></div>"
        )
    bubbles = (
        f'<article class="gw-bubble gw-{who}"><div class="gw-said">{escape(text)}</div>'
        '<button class="gw-copy" type="button">Copy</button></article>'
        for who, text in messages
    )
    return f'<div class="gw-chat" role="log">{"".join(bubbles)}</div>'


def show_picture(png: bytes) -> str:
    """A picture with a link to keep it; it travels in the page, since no file of the desk is served."""
    address = f"data:image/png;base64,{b64encode(png).decode()}"
    return (
        f'<figure class="gw-picture"><img src="{address}" alt="Picture for the post">'
        f'<figcaption><a href="{address}" download="post.png">Download</a></figcaption></figure>'
    )


def show_post(text: str) -> str:
    """The text of a post, its lines kept."""
    return f'<blockquote class="gw-card gw-text">{escape(text)}</blockquote>'


def name_model(model: dict[str, Any]) -> str:
    """`champion · version 3`, or `base model`."""
    if not model["version"]:
        return "base model"
    alias = f"{model['alias']} · " if model["alias"] else ""
    return f"{alias}version {model['version']}"


def show_audit(audit: dict[str, Any]) -> str:
    """The chain of one post: post, model and training, sources and runs."""
    model = audit["model"]
    steps = [
        ("Post", [("id", audit["post_id"]), ("topic", audit["topic"]), ("written", show_time(audit["created"])),
                  ("by", audit["author"]), ("prompt", audit["prompt_version"])]),
        ("Model", [("model", name_model(model)), ("served as", model["model_id"]), ("MLflow run", model["run_id"])]),
    ]  # fmt: skip
    if model["version"]:
        examples = model["examples"]
        listed = ", ".join(f"{item['path']} ({item['split']})" for item in examples)
        steps.append(
            ("Training", [("training set", model["training_set"]), ("fine-tuning job", model["job_id"]),
                          ("prepared in run", model.get("training_set_run"))])
        )  # fmt: skip
        if examples:
            steps[-1][1].append((f"{len(examples)} examples", listed))
    for source in audit["sources"]:
        state = "current" if source["current"] else "superseded or removed since"
        steps.append(
            (f"Source {source['rank']}", [
                ("document", f"{source['title']} ({state})"), ("uri", source["uri"]),
                ("content hash", source["content_hash"]), ("chunk", source["chunk_id"]),
                ("ingested in run", source["ingest_run"]), ("at", show_time(source["ingested_at"])),
            ])
        )  # fmt: skip
    cards = "".join(
        f'<section class="gw-card"><h4>{escape(title)}</h4>{_show_facts(facts)}</section>'
        for title, facts in steps
    )
    notes = "".join(show_note(note) for note in audit["notes"])
    return f'<div class="gw-audit">{cards}</div>{notes}'


def _show_facts(facts: Iterable[tuple[str, Any]]) -> str:
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value)) if value not in (None, '') else '–'}</dd>"
        for name, value in facts
    )
    return f"<dl>{rows}</dl>"


def show_problems(problems: Sequence[dict[str, str]]) -> str:
    """A box with the files that can't be used and what to do about each; nothing where there is none."""
    if not problems:
        return ""
    count = "1 file" if len(problems) == 1 else f"{len(problems)} files"
    items = "".join(
        f"<li><code>{escape(problem['uri'])}</code><span>{escape(problem['message'])}</span></li>"
        for problem in problems
    )
    return (
        f'<section class="gw-note gw-warning gw-problems"><strong>{count} can\'t be used</strong>'
        "<p>Posts are written without them, or from their last good version. Mend or delete them, then sync.</p>"
        f"<ul>{items}</ul></section>"
    )


def show_removals(removals: Sequence[dict[str, str]]) -> str:
    """A box with the sources that lost most of their documents at once; nothing where there is none."""
    if not removals:
        return ""
    items = "".join(
        f"<li><code>{escape(removal['uri'])}</code><span>{escape(removal['message'])}</span></li>"
        for removal in removals
    )
    return (
        '<section class="gw-note gw-warning gw-removals"><strong>Documents are gone from their source</strong>'
        "<p>Posts are written from them as before. Put the files back and sync, or accept that they are gone.</p>"
        f"<ul>{items}</ul></section>"
    )


def show_knowledge(state: dict[str, Any]) -> str:
    """Numbers of the knowledge base and a table of its sources."""
    last, change = state["last_ingest"], state["last_change"]
    failed = " (failed)" if last and last["state"] == "failed" else ""
    figures = [
        ("documents", state["documents"]),
        ("chunks", state["chunks"]),
        ("version", state["version"] or "–"),
        (f"last ingestion{failed}", show_time(last and last["at"], seconds=False)),
        ("last change", show_time(change and change["at"], seconds=False)),
    ]
    tiles = "".join(
        f'<div class="gw-tile"><b>{escape(str(value))}</b><span>{escape(name)}</span></div>'
        for name, value in figures
    )
    rows = [
        (item["source"], item["documents"], item["chunks"], show_time(item["changed"]))
        for item in state["sources"]
    ]
    told = [("last ingestion", last), ("last change", change)]
    runs = "".join(
        f'<p class="gw-quiet">Run of the {name}: <code>{escape(item["run"])}</code></p>'
        for name, item in told
        if item
    )
    notes = "".join(show_note(note, "warning") for note in state["notes"])
    table = show_table(("Source", "Documents", "Chunks", "Last change"), rows) if rows else ""
    return f'<div class="gw-tiles">{tiles}</div>{notes}{table}{runs}'


def show_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A plain table that scrolls sideways where the page is narrow."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    table = f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="gw-scroll"><table class="gw-table">{table}</table></div>'


def show_links(links: dict[str, str]) -> str:
    """Links to the other pages of the stack."""
    anchors = (
        f'<a href="{escape(url, quote=True)}" target="_blank" rel="noopener">{escape(name)}</a>'
        for name, url in links.items()
    )
    return f'<nav class="gw-links">{"".join(anchors)}</nav>'


def _badge(text: str) -> str:
    return f'<span class="gw-badge gw-strong">{escape(text)}</span>'
