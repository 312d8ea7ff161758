"""What `prepare_examples` hands to `fine_tune`: the training set to buy, or what keeps it from being bought.

It knows neither Airflow nor the provider; it is a small JSON file, replaced as a whole.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from deployments.training.preparation import Problem


def name_job(training_set: str, settings_digest: str) -> dict[str, str]:
    """The metadata of the job for this training set and these settings."""
    return {"ghostwriter_training_set": training_set, "ghostwriter_settings": settings_digest}


@dataclass(frozen=True, slots=True)
class Order:
    """What the provider is asked for. Its digest makes a job unique per training set."""

    training_set: str
    model: str
    n_epochs: int
    learning_rate_multiplier: float
    suffix: str

    @property
    def settings_digest(self) -> str:
        """sha256 hex over the settings, the training set left out."""
        settings = {key: value for key, value in asdict(self).items() if key != "training_set"}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    @property
    def metadata(self) -> dict[str, str]:
        """What the job carries at the provider, so that it can be found again."""
        return name_job(self.training_set, self.settings_digest)

    def name_request(self, before: str) -> str:
        """sha256 hex, the `Idempotency-Key` of the request for a job in the place of the job `before`; "" is none."""
        request = [self.training_set, self.settings_digest, before]
        return hashlib.sha256(json.dumps(request).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Proposal:
    """`order` is None where the examples could not be frozen; `counts` and `problems` say why."""

    order: Order | None
    train_file: str
    counts: dict[str, int]
    problems: tuple[Problem, ...]
    price_per_million: float
    budget: float
    currency: str
    run: str


def write_proposal(proposal: Proposal, path: Path) -> None:
    """Replace the latest proposal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(json.dumps(asdict(proposal), ensure_ascii=False, indent=1), encoding="utf-8")
    partial.replace(path)


def read_proposal(path: Path) -> Proposal:
    """The latest proposal; FileNotFoundError says what to do where there is none."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: no examples are prepared yet; run the Dag prepare_examples"
        ) from None
    order = Order(**raw.pop("order")) if raw["order"] else raw.pop("order")
    problems = tuple(Problem(**problem) for problem in raw.pop("problems"))
    return Proposal(order=order, problems=problems, **raw)
