"""A property whose value is built when it is first asked for: once, however many threads ask at the same moment.

It knows nothing of what is built. From Python 3.12 on `functools.cached_property` has no lock.
"""

from collections.abc import Callable
from threading import RLock
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class built_once(Generic[Value]):
    """Decorates a method without arguments. What it raises is raised, and the next call builds anew."""

    def __init__(self, build: Callable[[Any], Value]) -> None:
        self._build, self._lock = build, RLock()
        self.__doc__ = build.__doc__

    def __get__(self, instance: object, owner: type | None = None) -> Value:
        # No data descriptor: once the value is among the instance's own, Python looks no further.
        values, name = vars(instance), self._build.__name__
        with self._lock:
            if name not in values:
                values[name] = self._build(instance)
        return values[name]
