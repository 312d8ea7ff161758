"""The whole application: the HTTP interface, the static files and the pages on one address.

It knows no vendor but the web frameworks.
"""

from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from deployments.serving.api import create_api
from deployments.serving.desk import Desk
from deployments.serving.page.blocks import CSS_PATH, build_blocks, build_theme
from deployments.serving.page.lineage import STATIC_PATH

_STATIC = Path(__file__).parent / "static"


def create_app(desk: Desk) -> FastAPI:
    """An ASGI application: `/health`, `/api/…` and the pages under `/`."""
    app = create_api(desk)
    app.mount(STATIC_PATH, StaticFiles(directory=_STATIC), name="static")
    return gr.mount_gradio_app(
        app,
        build_blocks(desk),
        path="/",
        auth=desk.check_login,
        auth_message=f"Sign in as <b>{desk.admin_user}</b>. <code>make up</code> names the file with the password.",
        theme=build_theme(),
        css_paths=CSS_PATH,
        footer_links=[],
        ssr_mode=False,
        show_error=False,
        app_kwargs={"docs_url": None, "redoc_url": None},
    )
