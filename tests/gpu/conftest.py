"""`make test-gpu` on a machine without a GPU fails and says why: a test that skips itself would look like a pass."""

import pytest

from tokenhour.contracts.records.environment import Accelerator
from tokenhour.machine.hardware import accelerator


@pytest.fixture(autouse=True, scope="session")
def gpu() -> Accelerator:
    """Return the machine's GPUs."""
    found = accelerator()
    if found.kind != "cuda":
        pytest.fail("no NVIDIA driver answers here (nvidia-smi): these tests need a GPU", pytrace=False)
    return found


@pytest.fixture
def two_gpus(gpu: Accelerator) -> Accelerator:
    """Skip, with the reason, where there is one GPU."""
    if gpu.count < 2:
        pytest.skip(f"one GPU here ({gpu.name}): this path needs two")
    return gpu
