"""NVML: one session at a time, and what it says in more than one way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def session() -> Iterator[Any]:
    """Yield the binding (pynvml) while NVML is up; None where it does not start."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def memory(nvml: Any, handle: Any) -> Any:
    """Ask `nvml` (pynvml) for a GPU's memory: total, free and used by processes, bytes, as nvidia-smi counts.

    The first version of NVML's answer counts what the driver keeps for itself as used: 480 MiB of an idle H100. Drivers
    before 510 know no other. Raises NVMLError.
    """
    try:
        return nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError_FunctionNotFound:
        return nvml.nvmlDeviceGetMemoryInfo(handle)
