"""The process of one fine-tuning job: `python -m deployments.llm.trainer JOB_DIR`.

It knows the job's folder alone: it reads job.json and the copied files there, and writes events, metrics, adapter and
result there. The server that started it does the rest.
"""

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from deployments.llm.trainer.supervised import Progress, TrainingSettings, TrainingStoppedError, train_adapter
from deployments.llm.engines.torch.weights import locate_chat_weights
from deployments.llm.fine_tuning.examples import read_examples
from deployments.llm.fine_tuning.folder import METRICS_FILE, RESULT_FILE, TRAIN_FILE, VALIDATION_FILE
from deployments.llm.fine_tuning.job import Job
from deployments.llm.fine_tuning.store import append_event
from deployments.llm.settings import LlmSettings
from deployments.llm.uploads import write_durably
from shared.log_lines import write_log

log = logging.getLogger(__name__)

_COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")


def run_job(directory: Path, settings: LlmSettings) -> None:
    """Trains as job.json says. Raises what goes wrong; the folder's result.json tells the server."""
    job = Job.model_validate_json((directory / "job.json").read_bytes())
    validation = directory / VALIDATION_FILE
    rows: list[Progress] = []
    parent, started = os.getppid(), time.monotonic()

    def report(progress: Progress) -> None:
        rows.append(progress)
        numbers = {name: value for name in _COLUMNS if (value := getattr(progress, name)) is not None}
        message = f"Step {progress.step}/{progress.total_steps}: training loss={progress.train_loss:.2f}"
        if progress.valid_loss is not None:
            message += f", validation loss={progress.valid_loss:.2f}"
        append_event(directory, message, data={**numbers, "total_steps": progress.total_steps})
        log.info("%s after %.0f s", message, time.monotonic() - started)
        if os.getppid() != parent:
            raise TrainingStoppedError("the server that started this process is gone")

    result = train_adapter(
        locate_chat_weights(settings.llm_base_model, settings.models_dir),
        read_examples((directory / TRAIN_FILE).read_bytes()),
        read_examples(validation.read_bytes()) if job.validation_file else [],
        TrainingSettings(
            epochs=job.hyperparameters.n_epochs,
            batch_size=job.hyperparameters.batch_size,
            learning_rate_multiplier=job.hyperparameters.learning_rate_multiplier,
            seed=job.seed,
            threads=settings.llm_trainer_threads,
            max_tokens=settings.llm_max_model_len,
        ),
        directory / "adapter",
        report,
    )
    table = [",".join(_COLUMNS), *(",".join(_cell(getattr(row, name)) for name in _COLUMNS) for row in rows)]
    write_durably(directory / METRICS_FILE, ("\n".join(table) + "\n").encode())
    seconds = round(time.monotonic() - started, 1)
    write_durably(
        directory / RESULT_FILE, json.dumps({"trained_tokens": result, "seconds": seconds}).encode()
    )
    log.info("Trained on %d tokens in %.0f s", result, seconds)


def main() -> int:
    """Runs the job in the folder named on the command line; an error is left in result.json."""
    settings = LlmSettings()
    write_log(settings.log_level)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = Path(sys.argv[1])
    try:
        run_job(directory, settings)
    except Exception as error:
        log.exception("The job failed")
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        write_durably(directory / RESULT_FILE, json.dumps({"error": reason[:2000]}).encode())
        return 1
    return 0


def _cell(value: float | int | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.5f}"


if __name__ == "__main__":
    sys.exit(main())
