"""Where torch computes, in which precision, and how freed memory gets back to the system.

It knows no model.
"""

import ctypes
import gc
import os
from pathlib import Path
from typing import Final

import torch

_BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16"})


def choose_device() -> torch.device:
    """A GPU where there is one: NVIDIA's or AMD's, or Apple's."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def count_training_threads() -> int:
    """All cores but one of more than two: the rest of the system goes on beside a job."""
    cores = os.cpu_count() or 1
    return cores - 1 if cores > 2 else cores


def choose_dtype() -> torch.dtype:
    """bfloat16 where the hardware computes in it, else float32 (emulated bfloat16 is slower)."""
    if torch.backends.mps.is_available():
        return torch.float32
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    # torch may be held to an older instruction set than the CPU has (ATEN_CPU_CAPABILITY).
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return torch.bfloat16 if wide and _BF16_FLAGS & read_cpu_flags() else torch.float32


def read_cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Flags of the first CPU; empty where the system has no such file."""
    try:
        with cpuinfo.open() as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        return frozenset()
    return frozenset(flags.partition(":")[2].split())


def release_memory() -> None:
    """Hands what is free back to the system: glibc keeps hundreds of MB after a few long answers side by side."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # no other libc needs it
    if trim is not None:
        trim(0)
