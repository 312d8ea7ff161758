"""The page of recent posts: a table, and the audit of the one that is chosen.

It knows no query; `posts` and `audit` do.
"""

from typing import Any

import gradio as gr

from deployments.serving.audit import audit_post
from deployments.serving.desk import Desk
from deployments.serving.page import fragments
from deployments.serving.page.problems import explained
from deployments.serving.posts import get_post, list_posts
from shared.times import show_time

_HEAD = ["Written", "Topic", "Model", "Rating", "Post"]
_LIMIT = 50


def build_posts_tab(desk: Desk, tab: gr.Tab) -> None:
    """Lay out the page and tie its events; call inside a Tab."""
    with gr.Row(equal_height=True):
        gr.Markdown("Choose a post to see its text, its sources and every run behind it.")
        refresh = gr.Button("Refresh", size="sm", scale=0, min_width=110)
    table = gr.Dataframe(
        headers=_HEAD, datatype="str", interactive=False, wrap=True, show_label=False, max_height=320,
        column_widths=["205px", "285px", "205px", "80px", "340px"], elem_id="gw-posts",
    )  # fmt: skip
    shown = gr.HTML(elem_id="gw-post", elem_classes="gw-bare")

    def load() -> list[list[Any]]:
        with explained(), desk.sessions() as session:
            return [_make_row(post) for post in list_posts(session, _LIMIT)]

    def choose(event: gr.SelectData) -> str:
        with explained(), desk.sessions() as session:
            post_id = str(event.row_value[-1])
            post = get_post(session, post_id)
            return fragments.show_post(post.text) + fragments.show_audit(
                audit_post(session, desk.registry, post_id)
            )

    gr.on([tab.select, refresh.click], load, None, table, api_visibility="private")
    table.select(choose, None, shown, api_visibility="private")


def _make_row(post: dict[str, Any]) -> list[Any]:
    return [
        show_time(post["created"], seconds=False),
        post["topic"],
        fragments.name_model(post["model"]),
        f"{post['rating']:+d}" if post["rating"] else "–",
        post["post_id"],
    ]
