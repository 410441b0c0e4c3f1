"""Telemetry of a real GPU, held against nvidia-smi: two ways to ask one driver."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tokenhour.bench.telemetry.gpu_reader import Reader, gpu_reader
from tokenhour.contracts.records.environment import Accelerator

pytestmark = pytest.mark.gpu
ALWAYS = {"memory_used_bytes", "power_w", "temperature_c", "sm_clock_mhz", "utilization_share", "throttle_reasons"}
# Every bit that NVML documents for clock event (throttle) reasons.
KNOWN_REASONS = 0x1FF


def smi(field: str) -> list[str]:
    """Ask nvidia-smi for one field of every GPU."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    return [line.strip() for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()]


def reasons() -> list[int]:
    """Ask for the throttle mask; its name changed with driver 535."""
    for name in ("clocks_event_reasons.active", "clocks_throttle_reasons.active"):
        try:
            return [int(value, 16) for value in smi(name)]
        except (subprocess.CalledProcessError, ValueError):
            continue
    raise AssertionError("nvidia-smi knows no throttle reasons under either name")


def sample(read: Reader, index: str = "0") -> dict[str, float]:
    """Read once and return one GPU's metrics."""
    return {metric: value for _, at, metric, value in read() if at == index}


@pytest.fixture(scope="module")
def read() -> Reader:
    """Open NVML once for all tests."""
    return gpu_reader()


@pytest.fixture
def load() -> Iterator[None]:
    """Keep the GPU busy for four seconds in a process of its own."""
    code = (
        "import torch, time\na = torch.randn(8192, 8192, device='cuda', dtype=torch.bfloat16)\nend = time.time() + 4\n"
        "while time.time() < end:\n    (a @ a).sum()\n    torch.cuda.synchronize()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code])
    time.sleep(2.5)
    yield
    child.kill()
    child.wait()


def test_every_field_is_there_and_absent_ones_are_not_zero(read: Reader, gpu: Accelerator) -> None:
    """Every GPU of the machine is read with all fields that each driver offers."""
    found = sample(read)
    assert found.keys() >= ALWAYS
    assert {index for _, index, _, _ in read()} == {str(k) for k in range(gpu.count)}


@pytest.mark.parametrize(
    ("metric", "field", "scale", "slack"),
    [
        ("memory_used_bytes", "memory.used", 2**20, 256 * 2**20),
        ("temperature_c", "temperature.gpu", 1, 4),
        ("power_w", "power.draw", 1, 25),
        ("memory_clock_mhz", "clocks.mem", 1, 20),
    ],
)
def test_idle_values_agree_with_nvidia_smi(read: Reader, metric: str, field: str, scale: int, slack: int) -> None:
    """Units are right: memory, temperature, power and clock match what nvidia-smi prints."""
    stated = float(smi(field)[0]) * scale
    assert sample(read)[metric] == pytest.approx(stated, abs=slack, rel=0.1)


@pytest.mark.usefixtures("load")
def test_load_shows_in_utilization_power_and_clock(read: Reader) -> None:
    """A busy GPU reads as busy, within its power limit and in line with nvidia-smi."""
    found = sample(read)
    assert found["utilization_share"] > 0.5
    assert found["power_w"] == pytest.approx(float(smi("power.draw")[0]), rel=0.25)
    assert found["sm_clock_mhz"] == pytest.approx(float(smi("clocks.sm")[0]), rel=0.15)
    assert found["power_w"] <= 1.15 * float(smi("power.limit")[0])


@pytest.mark.usefixtures("load")
def test_the_energy_counter_grows_as_power_says(read: Reader) -> None:
    """The counter's increase equals mean power times time, so energy per token can rest on it."""
    before, began = sample(read), time.monotonic()
    if "energy_j" not in before:
        pytest.skip("this GPU has no total-energy counter (NVML: not supported)")
    powers = []
    while time.monotonic() < began + 1.0:
        powers.append(sample(read)["power_w"])
        time.sleep(0.05)
    spent = sample(read)["energy_j"] - before["energy_j"]
    mean = sum(powers) / len(powers)
    assert spent == pytest.approx(mean * (time.monotonic() - began), rel=0.3)


def test_throttle_reasons_are_the_drivers_own_mask(read: Reader) -> None:
    """The mask equals nvidia-smi's and has only bits that validity knows how to judge."""
    # The mask may change between the two questions: one of five tries agrees.
    for _ in range(5):
        ours, theirs = int(sample(read)["throttle_reasons"]), reasons()[0]
        assert ours & ~KNOWN_REASONS == 0
        if ours == theirs:
            return
        time.sleep(0.2)
    raise AssertionError(f"ours {ours:#x}, nvidia-smi's {theirs:#x}")


def test_two_gpus_are_read_apart(read: Reader, two_gpus: Accelerator) -> None:
    """Each index reads its own GPU's memory."""
    found = [sample(read, str(index)) for index in range(two_gpus.count)]
    used = [float(value) * 2**20 for value in smi("memory.used")]
    for ours, theirs in zip(found, used, strict=True):
        assert ours["memory_used_bytes"] == pytest.approx(theirs, abs=256 * 2**20)
