"""A stub of NVML with two GPUs, and waiting for samples."""

import os
import time
from pathlib import Path

import pytest

from tests import nvml
from tokenhour.bench.recording.tables import telemetry_rows

HEALTHY = {
    "count.0": 2,
    **{
        f"{name}.{k}": value + k
        for k in (0, 1)
        for name, value in {
            "utilization": 90, "memory": 2**30, "power": 300_000, "energy": 5_000_000, "temperature": 60, "sm_clock": 1900,
            "memory_clock": 2600, "throttle": 0, "pcie_tx": 1000, "pcie_rx": 2000, "ecc_corrected": 0, "ecc_uncorrected": 0,
        }.items()
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the stub NVML library once and return its folder."""
    return nvml.build(tmp_path_factory.mktemp("nvml")).parent


def environment(library: Path, state: dict[str, int]) -> dict[str, str]:
    """Return an environment in which NVML is the stub in this state."""
    return {**os.environ, "LD_LIBRARY_PATH": str(library), "NVML_STUB": str(nvml.tell(library, state))}


def wait_for(file: Path, metric: str, count: int) -> None:
    """Wait until a metric has so many samples."""
    deadline = time.monotonic() + 30
    while sum(r.metric == metric for r in telemetry_rows(file)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)
