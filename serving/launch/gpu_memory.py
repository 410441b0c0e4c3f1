"""How much memory of each GPU is free now, as the driver tells it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from tokenhour.machine.nvml import session


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """One GPU's memory now, bytes."""

    name: str
    """Its number on the bus or its UUID."""
    free_bytes: int
    total_bytes: int


def memory_now(names: Sequence[str]) -> list[GpuMemory]:
    """Ask NVML for the GPUs `names`; those that it cannot tell of are left out, all of them where NVML does not start."""
    found = []
    with session() as nvml:
        for name in names if nvml else ():
            with contextlib.suppress(nvml.NVMLError):
                by_number = name.isdigit()
                gpu = nvml.nvmlDeviceGetHandleByIndex(int(name)) if by_number else nvml.nvmlDeviceGetHandleByUUID(name)
                memory = nvml.nvmlDeviceGetMemoryInfo(gpu)
                found.append(GpuMemory(name, int(memory.free), int(memory.total)))
    return found
