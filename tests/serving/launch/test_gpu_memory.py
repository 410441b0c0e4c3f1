"""How much memory of each GPU is free, through the real pynvml on a stub of the driver."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import nvml
from tokenhour.serving.launch.gpu_memory import GpuMemory, memory_now


def test_gpus_are_found_by_number_and_by_uuid_and_an_unknown_one_is_left_out(gpu: Callable[..., None]) -> None:
    """The memory is told in the order that was asked for, under the name that was asked for."""
    gpu({"used": 2**30}, {})
    expected = [GpuMemory("1", 80 * 2**30, 80 * 2**30), GpuMemory("GPU-0", 79 * 2**30, 80 * 2**30)]
    assert memory_now(["1", "GPU-7", "GPU-0"]) == expected


@pytest.mark.usefixtures("gpu")
def test_where_the_driver_does_not_start_nothing_is_known(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that nobody can tell refuses no start."""
    monkeypatch.setenv("NVML_STUB", str(nvml.tell(library, {"init.0": -9})))
    assert memory_now(["0"]) == []
