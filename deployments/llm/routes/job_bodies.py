"""What a client sends to create a fine-tuning job, checked and resolved.

It knows no store.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from deployments.llm.fine_tuning.job import Hyperparameters, Method
from deployments.llm.routes.strict_body import StrictBody, refuse

Auto = Literal["auto"]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
_BETA = 0.1


class HyperparametersBody(StrictBody):
    """Values, or "auto". LoRA's rank and alpha, early stopping and the seed are this server's own."""

    n_epochs: Annotated[int, Field(ge=1, le=50)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=1, le=64)] | Auto = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0, le=100)] | Auto = "auto"
    lora_rank: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    lora_alpha: Annotated[int, Field(ge=1, le=1024)] | Auto = "auto"
    early_stopping_patience: Annotated[int, Field(ge=0, le=50)] | Auto = "auto"
    seed: Seed | None = None


class DpoHyperparametersBody(HyperparametersBody):
    """Those of dpo: `beta` is how closely the tuned model keeps to the base model."""

    beta: Annotated[float, Field(gt=0, le=10)] | Auto = "auto"


class SupervisedBody(StrictBody):
    """Settings of supervised fine-tuning."""

    hyperparameters: HyperparametersBody = HyperparametersBody()


class DpoBody(StrictBody):
    """Settings of direct preference optimisation."""

    hyperparameters: DpoHyperparametersBody = DpoHyperparametersBody()


class MethodBody(StrictBody):
    """The method, and its settings under its name."""

    refused: ClassVar[Mapping[str, str]] = {"reinforcement": "use the method supervised or dpo."}

    type: Method
    supervised: SupervisedBody | None = None
    dpo: DpoBody | None = None

    @model_validator(mode="after")
    def check_settings(self) -> "MethodBody":
        """Settings of the method that is not used would be ignored."""
        other = "dpo" if self.type == "supervised" else "supervised"
        if getattr(self, other) is not None:
            raise refuse(f"the method's type is {self.type}, but settings of {other} were sent.", other)
        return self

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Those that were sent."""
        settings = self.dpo if self.type == "dpo" else self.supervised
        return settings.hyperparameters.model_dump(exclude_unset=True) if settings else {}


class JobBody(StrictBody):
    """OpenAI's request body."""

    model: str
    training_file: str
    validation_file: str | None = None
    hyperparameters: HyperparametersBody | None = None
    method: MethodBody | None = None
    suffix: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    seed: Seed | None = None
    metadata: (
        Annotated[
            dict[
                Annotated[str, StringConstraints(max_length=64)],
                Annotated[str, StringConstraints(max_length=512)],
            ],
            Field(max_length=16),
        ]
        | None
    ) = None
    integrations: list[Any] | None = None

    @model_validator(mode="after")
    def check_consistency(self) -> "JobBody":
        """What is said twice must be the same; what would have no effect is refused."""
        if self.integrations:
            raise refuse(
                "integrations are not supported here: read the job's events instead.", "integrations"
            )
        if self.suffix is not None and not self.model_suffix:
            raise refuse("the suffix needs a letter from a to z or a digit.", "suffix")
        legacy, chosen = self._legacy, self.method.hyperparameters if self.method else {}
        for name in sorted(legacy.keys() & chosen.keys()):
            if legacy[name] != chosen[name]:
                raise refuse(
                    f"{name} is {legacy[name]} here and {chosen[name]} in the method: send it once.",
                    f"hyperparameters.{name}",
                )
        nested = {**legacy, **chosen}.get("seed")
        if None not in (self.seed, nested) and self.seed != nested:
            raise refuse("the seed was sent twice, with two values.", "seed")
        if self.resolve().early_stopping_patience and self.validation_file is None:
            raise refuse("early_stopping_patience needs a validation_file.", "validation_file")
        return self

    @property
    def _legacy(self) -> dict[str, Any]:
        return self.hyperparameters.model_dump(exclude_unset=True) if self.hyperparameters else {}

    @property
    def _given(self) -> dict[str, Any]:
        return {**self._legacy, **(self.method.hyperparameters if self.method else {})}

    @property
    def method_type(self) -> Method:
        """How to train."""
        return self.method.type if self.method else "supervised"

    @property
    def model_suffix(self) -> str | None:
        """The suffix as it stands in the model's id."""
        return re.sub(r"[^a-z0-9-]+", "-", self.suffix.lower()).strip("-") if self.suffix else None

    @property
    def chosen_seed(self) -> int | None:
        """The seed, wherever it was sent."""
        nested: int | None = self._given.get("seed")
        return nested if self.seed is None else self.seed

    def resolve(self) -> Hyperparameters:
        """Defaults in the place of "auto"; alpha follows the rank, as their quotient scales what is learned."""
        values = {name: value for name, value in self._given.items() if value != "auto" and name != "seed"}
        if "lora_rank" in values:
            values.setdefault("lora_alpha", 2 * values["lora_rank"])
        if self.method_type == "dpo":
            values.setdefault("beta", _BETA)
        return Hyperparameters(**values)

    @property
    def digest(self) -> str:
        """Of what was sent: two requests that ask for the same have the same one."""
        sent = json.dumps(self.model_dump(mode="json", exclude_unset=True), sort_keys=True)
        return hashlib.sha256(sent.encode()).hexdigest()
