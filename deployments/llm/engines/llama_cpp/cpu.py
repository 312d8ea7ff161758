"""Whether the prebuilt llama.cpp can run on a CPU; where it can't, its first instruction would kill the process."""

import ctypes
import platform
from collections.abc import Collection
from pathlib import Path
from typing import Final

_NEEDED: Final = ("avx2", "fma", "f16c")
_CPUINFO: Final = Path("/proc/cpuinfo")


def find_obstacle(system: str, machine: str, flags: Collection[str]) -> str | None:
    """Why llama.cpp can't run there, in words; None where it can.

    `system` and `machine` as `platform` names them, `flags` as /proc/cpuinfo does, empty where it has none.
    """
    if system == "Darwin":
        return None
    if system != "Linux":
        return f"xllamacpp has no wheel for {system}"
    if machine in ("aarch64", "arm64"):
        return None
    if machine not in ("x86_64", "AMD64"):
        return f"xllamacpp has no wheel for {machine}"
    missing = [flag for flag in _NEEDED if flag not in flags]
    return f"this CPU has no {', '.join(flag.upper() for flag in missing)}" if missing else None


def read_flags(cpuinfo: str) -> frozenset[str]:
    """The flags of the first CPU in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def find_obstacle_here() -> str | None:
    """Why llama.cpp can't run on this machine; None where it can."""
    flags = read_flags(_CPUINFO.read_text()) if _CPUINFO.is_file() else frozenset()
    obstacle = find_obstacle(platform.system(), platform.machine(), flags)
    if obstacle is None and platform.system() == "Linux":
        return _find_missing_library()
    return obstacle


def _find_missing_library() -> str | None:
    """The wheel for Linux carries all libraries but OpenMP's, which slim images of Debian lack."""
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return "the system has no libgomp.so.1 (Debian and Ubuntu: apt install libgomp1)"
    return None
