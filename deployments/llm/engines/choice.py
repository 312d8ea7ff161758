"""Which chat engine serves on this machine, and why.

`python -m deployments.llm.engines.choice` prints the engine that serves once everything is installed.
"""

import platform
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from deployments.llm.engines.llama_cpp.cpu import find_obstacle_here
from deployments.llm.settings import LlmSettings
from deployments.llm.trainer_environment import explain_gap

_GPUS: Final = Path("/proc/driver/nvidia/gpus")
_LOOK_SECONDS: Final = 15


class NoEngineError(RuntimeError):
    """The engine that was asked for can't run here; the message says why."""


@dataclass(frozen=True)
class Machine:
    """What the choice depends on."""

    has_cuda: bool = False
    has_metal: bool = False
    llama_cpp_obstacle: str | None = None
    """Why llama.cpp can't run on this CPU."""
    torch_gap: str | None = None
    """Why the environment with torch can't be used."""


@dataclass(frozen=True)
class Choice:
    """An engine of `registry.CHAT`, and why it was chosen."""

    engine: Literal["llama_cpp", "torch"]
    reason: str


def choose_chat_engine(wanted: Literal["auto", "llama_cpp", "torch"], machine: Machine) -> Choice:
    """The engine that serves there; NoEngineError where the one that is wanted can't."""
    obstacle = machine.llama_cpp_obstacle
    if wanted == "llama_cpp" and obstacle:
        raise NoEngineError(
            f"GHOSTWRITER_LLM_CHAT_ENGINE is llama_cpp, but {obstacle}: let it be auto, or torch."
        )
    if wanted != "auto":
        return Choice(wanted, "GHOSTWRITER_LLM_CHAT_ENGINE says so")
    if obstacle:
        return Choice("torch", f"llama.cpp can't run here: {obstacle}")
    if machine.has_cuda and machine.torch_gap is None:
        return Choice("torch", "this machine has a CUDA GPU")
    if machine.has_cuda:
        return Choice("llama_cpp", f"this machine has a CUDA GPU, but {machine.torch_gap}")
    if machine.has_metal:
        return Choice("llama_cpp", "it uses this machine's GPU through Metal")
    return Choice("llama_cpp", "there is no CUDA GPU")


def look_at_machine(settings: LlmSettings) -> Machine:
    """This machine as it is now."""
    return Machine(
        has_cuda=_find_cuda(),
        has_metal=platform.system() == "Darwin" and platform.machine() == "arm64",
        llama_cpp_obstacle=find_obstacle_here(),
        torch_gap=explain_gap(settings.llm_trainer_python),
    )


def _find_cuda() -> bool:
    """Whether NVIDIA's driver knows a GPU; under WSL only its tool does."""
    if _GPUS.is_dir():
        return any(_GPUS.iterdir())
    tool = shutil.which("nvidia-smi")
    if not tool:
        return False
    try:
        done = subprocess.run([tool, "-L"], capture_output=True, timeout=_LOOK_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and b"GPU " in done.stdout


def main() -> None:
    settings = LlmSettings()
    machine = replace(look_at_machine(settings), torch_gap=None)
    print(choose_chat_engine(settings.llm_chat_engine, machine).engine)


if __name__ == "__main__":
    main()
