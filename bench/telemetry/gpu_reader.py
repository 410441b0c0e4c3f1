"""GPUs through NVML: those that serve, their figures, and the errors (Xid) that the driver reports."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tokenhour.contracts.errors import RunFailedError
from tokenhour.machine.nvml import memory

Sample = tuple[str, str, str, float]
Reader = Callable[[], Iterator[Sample]]
_MOST_EVENTS = 64  # of one reading: a GPU that reports without end must not stop the others


def gpu_reader(wanted: Sequence[str] = ()) -> Reader:
    """Read GPUs through NVML, all or those `wanted` (numbers or UUIDs); what one does not support is absent, never zero.

    A GPU that is lost leaves a last row, `lost` = 1, and is not asked again. An Xid event leaves a row `xid` with its
    code. Raises RunFailedError where NVML does not start.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        names = tuple(wanted) or tuple(map(str, range(pynvml.nvmlDeviceGetCount())))
    except pynvml.NVMLError as error:
        raise RunFailedError(f"NVML does not start: {error}", where="GPU telemetry", remedy="nvidia-smi") from error
    handles: dict[str, Any] = {}
    lost: set[str] = set()
    xids = Xids(pynvml)

    def read() -> Iterator[Sample]:
        for name in names:
            if name in lost:
                continue
            try:
                if name not in handles:
                    handles[name] = _handle(pynvml, name)
                    xids.watch(handles[name], name)
                yield from _samples(pynvml, handles[name], name)
            except pynvml.NVMLError_GpuIsLost:
                lost.add(name)
                yield "gpu", name, "lost", 1.0
            except pynvml.NVMLError:
                continue
        yield from xids.read()

    return read


def _handle(nvml: Any, name: str) -> Any:
    """Find a GPU by its number on the bus or by its UUID."""
    return nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)


class Xids:
    """The driver's error events of the GPUs that are watched; silent where a driver or GPU offers none."""

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml
        self.names: dict[int | None, str] = {}
        try:
            self.events: Any = nvml.nvmlEventSetCreate()
        except nvml.NVMLError:
            self.events = None

    def watch(self, handle: Any, index: str) -> None:
        """Ask for the Xid events of a GPU from now on."""
        if self.events is None:
            return
        try:
            self.nvml.nvmlDeviceRegisterEvents(handle, self.nvml.nvmlEventTypeXidCriticalError, self.events)
        except self.nvml.NVMLError:
            return
        self.names[_address(handle)] = index

    def read(self) -> Iterator[Sample]:
        """Yield what has happened since the last call, without waiting."""
        for _ in range(_MOST_EVENTS if self.names else 0):
            try:
                event = self.nvml.nvmlEventSetWait_v2(self.events, 0)
            except self.nvml.NVMLError:  # a time-out: nothing more
                return
            if event.eventType & self.nvml.nvmlEventTypeXidCriticalError:
                yield "gpu", self.names.get(_address(event.device), ""), "xid", float(event.eventData)


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value


def _samples(nvml: Any, handle: Any, index: str) -> Iterator[Sample]:
    gone = nvml.NVMLError_GpuIsLost
    for metric, get in _fields(nvml).items():
        try:
            value = get(handle)
        except gone:
            raise
        except nvml.NVMLError:
            continue
        yield "gpu", index, metric, float(value)


def _fields(nvml: Any) -> dict[str, Callable[[Any], float]]:
    ecc = nvml.NVML_VOLATILE_ECC
    return {
        "utilization_share": lambda h: nvml.nvmlDeviceGetUtilizationRates(h).gpu / 100,
        "memory_used_bytes": lambda h: memory(nvml, h).used,
        "power_w": lambda h: nvml.nvmlDeviceGetPowerUsage(h) / 1000,
        "energy_j": lambda h: nvml.nvmlDeviceGetTotalEnergyConsumption(h) / 1000,
        "temperature_c": lambda h: nvml.nvmlDeviceGetTemperature(h, nvml.NVML_TEMPERATURE_GPU),
        "sm_clock_mhz": lambda h: nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_SM),
        "memory_clock_mhz": lambda h: nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_MEM),
        "throttle_reasons": nvml.nvmlDeviceGetCurrentClocksThrottleReasons,
        "pcie_sent_kbps": lambda h: nvml.nvmlDeviceGetPcieThroughput(h, nvml.NVML_PCIE_UTIL_TX_BYTES),
        "pcie_received_kbps": lambda h: nvml.nvmlDeviceGetPcieThroughput(h, nvml.NVML_PCIE_UTIL_RX_BYTES),
        "ecc_corrected_total": lambda h: nvml.nvmlDeviceGetTotalEccErrors(h, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, ecc),
        "ecc_uncorrected_total": lambda h: nvml.nvmlDeviceGetTotalEccErrors(h, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, ecc),
    }
