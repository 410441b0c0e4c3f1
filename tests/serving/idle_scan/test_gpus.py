"""The GPUs of this machine through the real pynvml, on a stub of the driver."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import nvml
from tokenhour.contracts.config.idle_scan import ScanPolicy
from tokenhour.serving.idle_scan import gpus
from tokenhour.serving.idle_scan.history import History
from tokenhour.serving.idle_scan.rules import Holder

FAST = ScanPolicy(sample_s=0.01, samples=2)


def holders(policy: ScanPolicy, history: History, now_s: float) -> list[Holder]:
    """List who holds memory, over all GPUs."""
    return [holder for gpu in gpus.gpus(policy, history, now_s) for holder in gpu.holders]


def test_a_gpu_that_is_lost_before_it_is_asked_does_not_end_the_scan(
    gpu: Callable[..., None], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU without even a handle is listed as lost beside the healthy ones."""
    gpu({}, {})
    state = {"count.0": 2, "handle.0": nvml.LOST, "utilization.1": 0, "memory.1": 0}
    monkeypatch.setenv("NVML_STUB", str(nvml.tell(library, state)))
    assert [each.state(FAST) for each in gpus.gpus(FAST, History(), 0.0)] == ["lost", "unused"]


def test_memory_that_the_driver_does_not_tell_is_no_waste(gpu: Callable[..., None], idler: subprocess.Popen[bytes]) -> None:
    """A process whose memory the driver hides counts as holding nothing."""
    gpu(processes=[(idler.pid, -1)])
    (found,) = holders(FAST, History(), 0.0)
    assert (found.pid, found.memory_bytes) == (idler.pid, 0)


@pytest.mark.usefixtures("gpu")
def test_a_driver_that_does_not_start_means_no_holders(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a working driver the scan lists no GPU instead of failing."""
    monkeypatch.setenv("NVML_STUB", str(nvml.tell(library, {"init.0": -9})))
    assert gpus.gpus(FAST, History(), 0.0) == []
