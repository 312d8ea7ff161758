"""Turns what can go wrong into a message that a page shows.

It knows no page.
"""

from collections.abc import Iterator
from contextlib import contextmanager

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
        raise gr.Error(str(error), duration=15, print_exception=False) from error
    except SQLAlchemyError as error:
        raise gr.Error(
            "The ledger (Postgres) can't be reached.", duration=15, print_exception=False
        ) from error
