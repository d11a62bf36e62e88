"""The machine a run is on: names, library versions, memory there is and memory taken."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

__all__ = ["available_cores", "device_name", "memory_bytes", "package_versions", "peak_memory_bytes"]

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def device_name(device: torch.device) -> str:
    """What a device calls itself."""
    return (
        torch.cuda.get_device_name(device) if device.type == "cuda" else (platform.processor() or device.type)
    )


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes(device: torch.device) -> int:
    """Memory of a GPU; elsewhere that of the machine, or of the container this process runs in.

    Args:
        device: Where a run takes place.
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    limits = [int(psutil.virtual_memory().total)]
    for file in _CGROUP_LIMITS:
        try:
            limits.append(int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):  # not Linux, or "max": no limit
            continue
    return min(limit for limit in limits if limit > 0)


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory taken so far: on a GPU by tensors, elsewhere by the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        # Linux hands the other figure below on from the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource
    except (
        ImportError
    ):  # Windows, which keeps the same figure elsewhere; where nobody does, the memory of now
        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, kilobytes elsewhere


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on."""
    packages = ("ecg-hf", "torch", "transformers", "datasets", "accelerate", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
