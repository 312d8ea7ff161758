"""All pages of the desk as one Gradio app: title, tabs, theme.

It knows nothing of what the tabs do.
"""

from functools import partial
from pathlib import Path

import gradio as gr

from deployments.serving.desk import Desk
from deployments.serving.page import fragments
from deployments.serving.page.knowledge import build_knowledge_tab
from deployments.serving.page.lineage import build_lineage_tab
from deployments.serving.page.posts import build_posts_tab
from deployments.serving.page.write import build_write_tab
from shared.voice import VoiceError

CSS_PATH = Path(__file__).parent / "style.css"


def build_theme() -> gr.themes.Base:
    """System fonts alone: named web fonts would be fetched from elsewhere."""
    return gr.themes.Soft(
        primary_hue="teal",
        neutral_hue="slate",
        font=["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
    )


def _name_desk(desk: Desk) -> str:
    """Asked at each visit: the voice may have changed."""
    try:
        name = desk.read_voice().name
    except VoiceError as error:
        return f"# Ghostwriter\n**The voice can't be used.** {error}"
    return f"# Ghostwriter\n{name}: posts in your own voice, from your own knowledge, with their sources."


def build_blocks(desk: Desk) -> gr.Blocks:
    """The pages; nothing is asked of any component before someone looks."""
    with gr.Blocks(title="Ghostwriter", analytics_enabled=False, fill_width=True) as blocks:
        gr.Markdown(partial(_name_desk, desk), elem_classes="gw-title")
        with gr.Tab("Write"):
            build_write_tab(desk)
        with gr.Tab("Posts") as posts:
            build_posts_tab(desk, posts)
        with gr.Tab("Lineage") as lineage:
            build_lineage_tab(desk, lineage)
        with gr.Tab("Knowledge") as knowledge:
            build_knowledge_tab(desk, knowledge)
        if desk.links:
            gr.HTML(fragments.show_links(dict(desk.links)))
    return blocks
