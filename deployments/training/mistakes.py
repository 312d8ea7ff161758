"""Tells the mistakes of a person, which trying again won't mend, from parts that are down, which it will, and both from
what others have settled meanwhile.

It knows no task.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from deployments.training.promotion import OvertakenError
from deployments.training.tuning.port import TuningError
from shared.llm.port import LlmRefusedError
from shared.retrieval_settings import RetrievalSettingsError
from shared.voice import VoiceError


@contextmanager
def fail_at_once() -> Iterator[None]:
    """A `voice.toml` or `retrieval.toml` that can't be used, or a refusal of the provider, fails the task without a
    retry; where there is nothing left to do, the task is skipped."""
    try:
        yield
    except (VoiceError, RetrievalSettingsError, LlmRefusedError, TuningError) as error:
        raise AirflowFailException(str(error)) from error
    except OvertakenError as error:
        raise AirflowSkipException(str(error)) from error
