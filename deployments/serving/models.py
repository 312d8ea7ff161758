"""Which model writes: the champion, the base model while there is none, the challenger, or one version.

It knows nothing of prompts and posts.
"""

import logging
from dataclasses import dataclass, replace

from deployments.serving.errors import Unavailable, UnknownModel
from shared.contracts import BASE_ALIAS, CHALLENGER_ALIAS, CHAMPION_ALIAS, REGISTERED_MODEL
from shared.llm.port import Llm, LlmError
from shared.registry.port import ModelRegistry, ModelVersion, RegistryError

log = logging.getLogger(__name__)

MODEL_CHOICES = (CHAMPION_ALIAS, CHALLENGER_ALIAS, BASE_ALIAS)


@dataclass(frozen=True)
class ChosenModel:
    """A model to write with; `note` tells the reader when it isn't quite what was asked for."""

    name: str
    version: str | None  # None: the base model
    alias: str | None
    model_id: str  # what the LLM server calls it
    note: str = ""


class ModelChooser:
    """Resolves what a user asks for to a model that the LLM server can be asked for."""

    def __init__(self, registry: ModelRegistry, llm: Llm, base_model: str) -> None:
        self._registry, self._llm, self._base_model = registry, llm, base_model
        self._last_champion: ChosenModel | None = None
        self.champion_is_lost = False
        """Whether the provider didn't know the champion when it was last asked for."""

    def choose(self, asked: str) -> ChosenModel:
        """`champion`, `challenger`, `base` or a version number. Raises UnknownModel and Unavailable.

        A champion that the provider doesn't know (another provider, a lost state) counts as none while that is so.
        """
        asked = asked.strip() or CHAMPION_ALIAS
        chosen = self._resolve(asked)
        served = chosen.version is None or self._is_served(chosen)
        if asked == CHAMPION_ALIAS:
            self.champion_is_lost = not served
        if served:
            return chosen
        told = f"The provider doesn't know version {chosen.version} of the model ({chosen.model_id})"
        if asked != CHAMPION_ALIAS:
            raise UnknownModel(f"{told}. Choose {CHAMPION_ALIAS!r} or {BASE_ALIAS!r}.")
        note = (
            f"{told}, the champion: written with the base model. "
            "Point to the provider that has it, or train one anew (`ghostwriter train start`)."
        )
        log.warning("%s", note)
        return self._base(note)

    def _is_served(self, chosen: ChosenModel) -> bool:
        try:
            return self._llm.knows_model(chosen.model_id)
        except LlmError as error:  # who can't answer hasn't lost anything
            log.warning("the provider can't say whether it has %s: %s", chosen.model_id, error)
            return True

    def _resolve(self, asked: str) -> ChosenModel:
        if asked == BASE_ALIAS:
            return self._base()
        if asked not in MODEL_CHOICES and not asked.isdecimal():
            raise UnknownModel(f"There is no model {asked!r}. Choose {_list_choices()} or a version number.")
        try:
            return self._look_up(asked)
        except RegistryError as error:
            if asked == CHAMPION_ALIAS and self._last_champion is not None:
                log.warning(
                    "registry: %s; going on with champion version %s", error, self._last_champion.version
                )
                note = (
                    "The model registry can't be asked just now: written with the champion it named last, "
                    f"version {self._last_champion.version}."
                )
                return replace(self._last_champion, note=note)
            raise Unavailable(
                f"The model registry can't say which model {asked!r} is: {error} "
                f"Choose {BASE_ALIAS!r} to write without it."
            ) from error

    def _look_up(self, asked: str) -> ChosenModel:
        if asked == CHAMPION_ALIAS:
            version = self._registry.get_by_alias(CHAMPION_ALIAS)
            if version is None:
                self._last_champion = None
                return self._base("There is no champion yet: written with the base model.")
            self._last_champion = _from_version(version, CHAMPION_ALIAS)
            return self._last_champion
        if asked == CHALLENGER_ALIAS:
            version = self._registry.get_by_alias(CHALLENGER_ALIAS)
            if version is None:
                raise UnknownModel(
                    f"There is no challenger now. Choose {CHAMPION_ALIAS!r} or {BASE_ALIAS!r}."
                )
            return _from_version(version, CHALLENGER_ALIAS)
        version = self._registry.get_version(asked)
        if version is None:
            have = ", ".join(item.version for item in self._registry.list_versions()) or "none yet"
            raise UnknownModel(
                f"There is no version {asked} of the model. Versions: {have}. Or {_list_choices()}."
            )
        return _from_version(version, next((a for a in MODEL_CHOICES if a in version.aliases), None))

    def _base(self, note: str = "") -> ChosenModel:
        return ChosenModel(self._base_model, None, BASE_ALIAS, self._base_model, note)


def _from_version(version: ModelVersion, alias: str | None) -> ChosenModel:
    return ChosenModel(REGISTERED_MODEL, version.version, alias, version.model_id)


def _list_choices() -> str:
    return ", ".join(MODEL_CHOICES)
