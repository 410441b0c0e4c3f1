"""The GPUs of this machine as the scan sees them: how busy they are, and who holds them. NVML, watched for a few seconds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from tokenhour.contracts.config.idle_scan import ScanPolicy
from tokenhour.machine.nvml import memory, session
from tokenhour.serving.idle_scan.foreign_servers import command_line
from tokenhour.serving.idle_scan.history import History
from tokenhour.serving.idle_scan.rules import Gpu, Holder
from tokenhour.serving.state import start_of

NOBODY = "held by nobody that can be seen from here"


def gpus(policy: ScanPolicy, history: History, now_s: float) -> list[Gpu]:
    """Watch every GPU for the policy's time. Empty without NVML; a GPU that does not answer is told as lost."""
    with session() as nvml:
        handles = [_handle(nvml, index) for index in range(nvml.nvmlDeviceGetCount() if nvml else 0)]
        peaks = _watch(nvml, handles, policy) if handles else []
        return [_gpu(nvml, index, handle, peaks[index], policy, history, now_s) for index, handle in enumerate(handles)]


def _handle(nvml: Any, index: int) -> Any:
    with contextlib.suppress(nvml.NVMLError):
        return nvml.nvmlDeviceGetHandleByIndex(index)
    return None


def _watch(nvml: Any, handles: Sequence[Any], policy: ScanPolicy) -> list[float | None]:
    """Return the highest utilization of each; None where it is never told (MIG, some virtual GPUs)."""
    peaks: list[float | None] = [None] * len(handles)
    for number in range(policy.samples):
        for index, handle in enumerate(handles):
            with contextlib.suppress(nvml.NVMLError):
                if handle is not None:
                    peaks[index] = max(peaks[index] or 0.0, nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
        if number + 1 < policy.samples:
            time.sleep(policy.sample_s / policy.samples)
    return peaks


def _gpu(nvml: Any, index: int, handle: Any, peak: float | None, policy: ScanPolicy, history: History, now_s: float) -> Gpu:
    number = str(index)
    try:
        if handle is None:
            return Gpu(number, lost=True)
        found = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        name, uuid = _text(nvml.nvmlDeviceGetName(handle)), _text(nvml.nvmlDeviceGetUUID(handle))
        held = memory(nvml, handle)
    except nvml.NVMLError:
        # It fell off the bus: the others are still told.
        return Gpu(number, lost=True)
    used, idle = int(held.used), peak is not None and peak <= policy.gpu_idle_share
    idle_s = history.idle_s(uuid, now_s, idle=idle)
    holders = [
        Holder(
            pid=process.pid,
            start=start,
            command=_command(process.pid),
            gpu=number,
            gpu_name=name,
            memory_bytes=int(process.usedGpuMemory or 0),
            busy_share=peak,
            idle_s=history.idle_s(f"{uuid} {process.pid} {start}", now_s, idle=idle),
        )
        for process in found
        if (start := start_of(process.pid)) is not None
    ]
    if not holders:
        holders = [Holder(None, None, NOBODY, number, name, used, peak, idle_s)]
    return Gpu(number, name, uuid, used, int(held.total), peak, idle_s, tuple(holders))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _command(pid: int) -> str:
    return command_line(pid) or "(not ours to read)"
