"""The whole application: the HTTP interface, the static files and the pages on one address.

It knows no vendor but the web frameworks.
"""

from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from gradio_client.utils import is_file_obj_with_meta

from deployments.serving.api import create_api
from deployments.serving.desk import Desk
from deployments.serving.gate import STATIC_PATH
from deployments.serving.login import make_login_routes
from deployments.serving.page.blocks import CSS_PATH, build_blocks, build_theme

_STATIC = Path(__file__).parent / "static"


def create_app(desk: Desk) -> FastAPI:
    """An ASGI application: `/health`, `/api/…`, the sign-in and, for who is signed in, the pages under `/`."""
    blocks = build_blocks(desk)
    # Gradio takes files from anywhere into what it serves until it believes that `launch` was called.
    blocks.has_launched = True
    app = create_api(desk, _list_files(blocks.config))
    app.include_router(make_login_routes(desk.sign_ins))
    app.mount(STATIC_PATH, StaticFiles(directory=_STATIC), name="static")
    return gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        auth_dependency=lambda request: request.state.user,
        theme=build_theme(),
        css_paths=CSS_PATH,
        footer_links=[],
        ssr_mode=False,
        show_error=False,
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        app_kwargs={"docs_url": None, "redoc_url": None},
    )


def _list_files(value: Any) -> set[str]:
    """Paths of the files that the pages show from the start, such as icons."""
    if isinstance(value, dict):
        found = {value["path"]} if is_file_obj_with_meta(value) else set()
        return found.union(*map(_list_files, value.values()))
    return set().union(*map(_list_files, value)) if isinstance(value, list | tuple) else set()
