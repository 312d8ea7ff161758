"""Turns what can go wrong into a message that a page shows.

It knows no page.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import gradio as gr
from sqlalchemy.exc import SQLAlchemyError

from deployments.serving.errors import ServingError
from shared.llm.port import LlmError


@contextmanager
def explained() -> Iterator[None]:
    """Errors that the user can do something about become a message on the page."""
    try:
        yield
    except (ServingError, LlmError) as error:
        raise show_problem(str(error)) from error
    except SQLAlchemyError as error:
        raise show_problem("The ledger (Postgres) can't be reached.") from error


def show_problem(message: str) -> gr.Error:
    """To be raised; plain text, of which Gradio would obey the HTML."""
    return gr.Error(escape(message, quote=False), duration=15, print_exception=False)
