"""Starts the LLM server: `python -m deployments.llm`.

It is the composition root: it knows every part and holds no logic.
"""

import importlib.util
import logging
import os
import sys
from pathlib import Path
from typing import Final

from deployments.llm.app import create_app
from deployments.llm.engines.choice import NoEngineError, choose_chat_engine, look_at_machine
from deployments.llm.engines.registry import build_engines
from deployments.llm.fine_tuning.lineage import build_emitter
from deployments.llm.fine_tuning.runner import JobRunner
from deployments.llm.fine_tuning.store import JobStore
from deployments.llm.keyring import KeyFileError, Keyring
from deployments.llm.keys import find_key_file
from deployments.llm.server import Running, Server, build_config
from deployments.llm.settings import LlmSettings
from deployments.llm.state_lock import FolderInUseError, lock_folder
from deployments.llm.trainer_environment import TorchMissingError, explain_gap, find_other_interpreter
from deployments.llm.uploads import FileStore
from shared.admission import ExposedError, check_exposure
from shared.log_lines import write_log
from shared.settings import get_settings

# OpenMP's threads spin at every barrier by default; beside other busy processes that costs torch a factor of five. It
# is read when torch is loaded. llama.cpp loses as much by it, so it is told to torch alone.
PATIENT_THREADS: Final = {"OMP_WAIT_POLICY": "PASSIVE"}


def become_torch_process(trainer: Path) -> None:
    """Goes on under the interpreter that has torch, unless this one has; TorchMissingError where none has."""
    has_torch = importlib.util.find_spec("torch") is not None
    other = find_other_interpreter(has_torch=has_torch, current=Path(sys.executable), trainer=trainer)
    if other is None:
        os.environ.setdefault("OMP_WAIT_POLICY", PATIENT_THREADS["OMP_WAIT_POLICY"])
    else:
        logging.info("Going on under %s, which has torch", other)
        command = [str(other), "-m", "deployments.llm"]
        os.execve(command[0], command, {**PATIENT_THREADS, **os.environ})  # noqa: S606 - our own argument list


def main() -> None:
    """Serves until it is told to stop; without a key it does so on loopback only."""
    settings, shared_settings = LlmSettings(), get_settings()
    write_log(settings.log_level)
    api_key = shared_settings.secrets.llm_api_key.get_secret_value()
    key_file = shared_settings.secrets_dir / "llm_api_key"
    try:
        keyring = Keyring(api_key, find_key_file(settings, shared_settings))
        check_exposure(
            settings.llm_host,
            "" if keyring.open else "keys",
            f"put a key into {key_file}, or set GHOSTWRITER_LLM_HOST to 127.0.0.1.",
        )
    except (ExposedError, KeyFileError) as error:
        sys.exit(f"llm: {error}")
    if keyring.open:
        logging.warning("No key in %s: every caller on this machine is let in", key_file)
    try:
        choice = choose_chat_engine(settings.llm_chat_engine, look_at_machine(settings))
        if "torch" in (choice.engine, settings.llm_embedding_engine):
            become_torch_process(settings.llm_trainer_python)
    except (NoEngineError, TorchMissingError) as error:
        sys.exit(f"llm: {error}")
    logging.info("Chat is served by %s: %s", choice.engine, choice.reason)
    engines = build_engines(settings, choice.engine)
    state = shared_settings.state_dir.resolve() / "llm"
    try:
        lock_folder(state)  # held until this process ends
    except FolderInUseError as error:
        sys.exit(f"llm: {error}")
    files, jobs = FileStore(state / "files"), JobStore(state / "jobs")
    runner = JobRunner(
        jobs,
        files,
        engines.chat,
        command=[str(settings.llm_trainer_python), "-m", "deployments.llm.trainer"],
        environment={**PATIENT_THREADS, **os.environ},
        find_obstacle=lambda: explain_gap(settings.llm_trainer_python),
        emit=build_emitter(shared_settings.lineage_spool_dir),
        nice=settings.llm_trainer_nice,
        timeout=settings.llm_training_timeout,
    )
    running = Running()
    app = create_app(
        settings,
        engines,
        api_key=api_key,
        files=files,
        jobs=jobs,
        runner=runner,
        keyring=keyring,
        running=running,
        state=state,
    )
    config = build_config(app, settings, running)
    Server(config, running, settings.llm_drain_seconds).run()


if __name__ == "__main__":
    main()
