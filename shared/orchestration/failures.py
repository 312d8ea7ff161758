"""Errors that trying again won't mend fail a task at once; what has nothing to do is skipped.

It knows no Dag and no rule: which errors these are is said where a task is declared.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def fails_at_once(*errors: type[Exception]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a task's function: these errors end the task without another try, with their own words."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            from airflow.sdk.exceptions import AirflowFailException

            try:
                return function(*args, **kwargs)
            except errors as error:
                raise AirflowFailException(str(error)) from error

        return run

    return decorate
