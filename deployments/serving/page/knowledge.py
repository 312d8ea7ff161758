"""The page on the knowledge base: what is in it, which files can't be used, and a button that makes ingest look again.

It knows nothing of how documents are ingested.
"""

import gradio as gr

from deployments.serving.desk import Desk
from deployments.serving.page import fragments
from deployments.serving.page.problems import explained

_REFRESH_SECONDS = 10


def build_knowledge_tab(desk: Desk, tab: gr.Tab) -> None:
    """Lay out the page and tie its events; call inside a Tab."""
    with gr.Row(equal_height=True):
        gr.Markdown(
            f"Documents under `{desk.knowledge_dir}/<source>/` are read daily, and whenever you say so."
        )
        sync = gr.Button("Sync now", variant="primary", size="sm", scale=0, min_width=130, elem_id="gw-sync")
    state = gr.HTML(elem_id="gw-knowledge", elem_classes="gw-bare")
    told = gr.HTML(elem_classes="gw-bare")
    timer = gr.Timer(_REFRESH_SECONDS, active=False)

    def load() -> str:
        with explained():
            found = desk.describe_knowledge()
        empty = (
            fragments.show_note("Nothing has been ingested yet.", "warning") if not found["documents"] else ""
        )
        gone = {(item["uri"], item["message"]) for item in found["removals"]}
        problems = [item for item in found["problems"] if (item["uri"], item["message"]) not in gone]
        return (
            empty
            + fragments.show_removals(found["removals"])
            + fragments.show_problems(problems)
            + fragments.show_knowledge(found)
        )

    def start(request: gr.Request) -> tuple[str, gr.Timer]:
        with explained():
            run = desk.sync(request.username or "admin")
        message = f"Ingest looks at its sources in the run {run}; the numbers here follow by themselves."
        return fragments.show_note(message), gr.Timer(active=True)

    tab.select(load, None, state, api_visibility="private")
    timer.tick(load, None, state, api_visibility="private", show_progress="hidden")
    sync.click(start, None, [told, timer], api_visibility="private")
