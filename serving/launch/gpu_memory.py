"""How much memory of each GPU is free now, as the driver tells it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """One GPU's memory now, bytes."""

    name: str
    """Its number on the bus or its UUID."""
    free_bytes: int
    total_bytes: int


def memory_now(names: Sequence[str]) -> list[GpuMemory]:
    """Ask NVML for the GPUs `names`; those that it cannot tell of are left out, all of them where NVML does not start."""
    import pynvml

    found = []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        for name in names:
            with contextlib.suppress(pynvml.NVMLError):
                by_number = name.isdigit()
                gpu = pynvml.nvmlDeviceGetHandleByIndex(int(name)) if by_number else pynvml.nvmlDeviceGetHandleByUUID(name)
                memory = pynvml.nvmlDeviceGetMemoryInfo(gpu)
                found.append(GpuMemory(name, int(memory.free), int(memory.total)))
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return found
