"""Tells the mistakes of a person, which trying again won't mend, from parts that are down, which it will.

It knows no task.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowFailException

from shared.llm.port import LlmRefusedError
from shared.voice import VoiceError


@contextmanager
def fail_at_once() -> Iterator[None]:
    """A `content/voice.toml` that can't be used, or a refusal of the provider, fails the task without a retry."""
    try:
        yield
    except (VoiceError, LlmRefusedError) as error:
        raise AirflowFailException(str(error)) from error
