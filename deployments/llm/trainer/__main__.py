"""The process of one fine-tuning job: `python -m deployments.llm.trainer JOB_DIR`.

It knows the job's folder alone: it reads job.json and the copied files there, and writes events, metrics, checkpoints,
adapter and result there. The server that started it does the rest.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final

from deployments.llm.durable_files import write_durably
from deployments.llm.fine_tuning.folder import RESULT_FILE
from deployments.llm.fine_tuning.job import Job
from deployments.llm.settings import LlmSettings
from deployments.llm.trainer.failures import explain, name_code
from shared.log_lines import write_log

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0


def run_job(directory: Path, settings: LlmSettings) -> None:
    """Trains as job.json says and leaves result.json. Raises what goes wrong."""
    started = time.monotonic()
    # Seconds of imports, after the log is set up: what went wrong in them is in the result too.
    from deployments.llm.engines.torch.weights import locate_chat_weights
    from deployments.llm.trainer.training import train_job

    job = Job.model_validate_json((directory / "job.json").read_bytes())
    weights = locate_chat_weights(settings)
    tokens = train_job(
        directory,
        job,
        weights,
        max_tokens=settings.llm_max_model_len,
        threads=settings.llm_trainer_threads,
    )
    seconds = round(time.monotonic() - started, 1)
    write_durably(
        directory / RESULT_FILE, json.dumps({"trained_tokens": tokens, "seconds": seconds}).encode()
    )
    log.info("Trained on %d tokens in %.0f s", tokens, seconds)


def main() -> int:
    """Runs the job in the folder named on the command line; an error is left in result.json."""
    settings = LlmSettings()
    write_log(settings.log_level)
    # What is on the disk is whole at every moment: there is nothing to tidy up, and torch's threads need not end first.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    # One device a training; a matrix product on a GPU is reproducible only with a workspace of its own.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    directory = Path(sys.argv[1])
    try:
        run_job(directory, settings)
    except Exception as error:
        log.exception("The job failed")
        reason = explain(error, directory)
        result = {"error": reason[:2000], "code": name_code(error, directory)}
        write_durably(directory / RESULT_FILE, json.dumps(result).encode())
        return 1
    return 0


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    log.warning("The server that started this process is gone; it ends")
    os._exit(143)


if __name__ == "__main__":
    sys.exit(main())
