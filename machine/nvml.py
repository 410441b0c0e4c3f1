"""What NVML says in more than one way. The binding is handed in: only its users import it."""

from __future__ import annotations

from typing import Any


def memory(nvml: Any, handle: Any) -> Any:
    """Ask `nvml` (pynvml) for a GPU's memory: total, free and used by processes, bytes, as nvidia-smi counts.

    The first version of NVML's answer counts what the driver keeps for itself as used: 480 MiB of an idle H100. Drivers
    before 510 know no other. Raises NVMLError.
    """
    try:
        return nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError_FunctionNotFound:
        return nvml.nvmlDeviceGetMemoryInfo(handle)
