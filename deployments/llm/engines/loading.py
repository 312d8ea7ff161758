"""An engine that loads its models once, in the process that answers, and tells in words why it couldn't."""

import logging
from abc import abstractmethod

from deployments.llm.engines.ports import Engine, NotReadyError
from deployments.llm.engines.weights import WeightsMissingError

log = logging.getLogger(__name__)


class LoadingEngine(Engine):
    """Ready from the end of `load` until it is closed, unless `failure` says what went wrong."""

    def __init__(self) -> None:
        self._loaded = self._closed = False
        self._failure: str | None = None

    @abstractmethod
    def load_models(self) -> None:
        """Loads them; blocks. Raises whatever goes wrong."""

    def load(self) -> None:
        try:
            self.load_models()
            self._loaded = True
        except Exception as error:
            log.exception("%s could not load its models", type(self).__name__)
            missing = isinstance(error, WeightsMissingError)  # its words are for the user
            self._failure = str(error) if missing else f"{type(error).__name__}: {error}"

    @property
    def ready(self) -> bool:
        return self._loaded and not self._closed

    @property
    def failure(self) -> str | None:
        return self._failure

    def check_ready(self) -> None:
        """Raises NotReadyError."""
        if self._failure:
            raise NotReadyError(f"The models could not be loaded: {self._failure}")
        if self._closed:
            raise NotReadyError("The server is stopping.")
        if not self._loaded:
            raise NotReadyError("The models are still loading; try again in a moment.")

    def close(self) -> None:
        self._closed = True
