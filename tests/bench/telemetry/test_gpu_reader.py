"""NVML through the real pynvml binding on a stub library."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.bench.telemetry.conftest import HEALTHY, environment
from tests.nvml import LOST, NOT_SUPPORTED
from tokenhour.bench.telemetry.series import Telemetry
from tokenhour.contracts.records.telemetry import TelemetryRow

READ = (
    "import json, sys; from tokenhour.bench.telemetry.gpu_reader import gpu_reader\n"
    "read = gpu_reader(sys.argv[1:])\n"
    "for line in sys.stdin: print(json.dumps(list(read())), flush=True)\n"
)


def read_gpus(library: Path, *states: dict[str, int], wanted: Sequence[str] = ()) -> list[list[tuple[Any, ...]]]:
    """Read once for each state, in one process."""
    env = environment(library, states[0])
    with subprocess.Popen(
        [sys.executable, "-c", READ, *wanted], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT
    ) as process:
        found = []
        for state in states:
            environment(library, state)
            process.stdin.write("\n")
            process.stdin.flush()
            found.append([tuple(sample) for sample in json.loads(process.stdout.readline())])
    return found


def test_every_gpu_is_read_with_its_units(library: Path) -> None:
    """NVML's milliwatts, millijoules and percent become watts, joules and shares."""
    (found,) = read_gpus(library, HEALTHY)
    values = {(index, metric): value for _, index, metric, value in found}
    assert values["0", "utilization_share"] == 0.9
    assert values["1", "power_w"] == 300.001
    assert values["0", "energy_j"] == 5000
    assert values["1", "memory_used_bytes"] == 2**30 + 1
    assert values["0", "sm_clock_mhz"] == 1900
    assert values["0", "memory_clock_mhz"] == 2600
    assert values["0", "temperature_c"] == 60
    assert values["0", "pcie_received_kbps"] == 2000
    assert len(found) == 24


@pytest.mark.parametrize(
    ("reserved", "used"), [(503_316_480, 2**30), (-13, 2**30 + 503_316_480)], ids=["driver 510 on", "an older driver"]
)
def test_what_the_driver_keeps_is_not_used_memory_where_it_says_so(library: Path, reserved: int, used: int) -> None:
    """An idle H100 has 480 MiB reserved; nvidia-smi says that none is in use."""
    held = {"memory.0": 2**30 + (503_316_480 if reserved < 0 else 0), "reserved.0": reserved}
    (found,) = read_gpus(library, HEALTHY | held)
    assert ("gpu", "0", "memory_used_bytes", used) in found


@pytest.mark.parametrize("wanted", ["1", "GPU-1"])
def test_only_the_gpus_that_serve_are_read_where_they_are_named(library: Path, wanted: str) -> None:
    """Another one's watts are not this server's, nor does its throttling disturb it."""
    (found,) = read_gpus(library, HEALTHY, wanted=[wanted])
    values = {metric: value for _, index, metric, value in found if index == wanted}
    assert len(values) == len(found) == 12
    assert values["energy_j"] == 5000.001


def test_what_a_gpu_does_not_support_is_absent_not_zero(library: Path) -> None:
    """A zero would be averaged into a figure; an absent sample is not."""
    state = {**HEALTHY, "energy.0": NOT_SUPPORTED}
    del state["ecc_corrected.1"]
    (found,) = read_gpus(library, state)
    seen = {(index, metric) for _, index, metric, _ in found}
    assert ("0", "energy_j") not in seen
    assert ("1", "energy_j") in seen
    assert ("1", "ecc_corrected_total") not in seen


def test_a_lost_gpu_says_so_once_and_the_other_goes_on(library: Path) -> None:
    """One GPU falling off the bus does not blind the telemetry of the rest."""
    lost = {**HEALTHY, **{key: LOST for key in HEALTHY if key.endswith(".1")}}
    before, during, after = read_gpus(library, HEALTHY, lost, HEALTHY)
    assert {index for _, index, _, _ in before} == {"0", "1"}
    assert [(i, m) for _, i, m, _ in during if i == "1"] == [("1", "lost")]
    assert {index for _, index, _, _ in after} == {"0"}


def test_energy_is_that_of_the_servers_gpus_alone(library: Path) -> None:
    """Joules per token exclude the neighbours in the same machine."""
    later = {**HEALTHY, "energy.0": 9_000_000, "energy.1": 5_300_001}
    rows = [
        TelemetryRow(float(t), *sample)
        for t, samples in enumerate(read_gpus(library, HEALTHY, later, wanted=["1"]))
        for sample in samples
    ]
    assert Telemetry.of(rows).energy_j(0, 1) == pytest.approx(300)


def test_an_xid_is_told_once_with_its_gpu_and_code(library: Path) -> None:
    """A driver error during the run is recorded when it happens, not at every sample."""
    broken = {**HEALTHY, "xid.1": 79}
    before, during, after = read_gpus(library, HEALTHY, broken, broken)
    assert [s for s in (*before, *after) if s[2] == "xid"] == []
    assert [s for s in during if s[2] == "xid"] == [("gpu", "1", "xid", 79.0)]


def test_the_xid_of_a_gpu_that_serves_somebody_else_is_not_ours(library: Path) -> None:
    """Another GPU's fault does not invalidate this run."""
    (found,) = read_gpus(library, {**HEALTHY, "xid.0": 31}, wanted=["1"])
    assert "xid" not in {metric for _, _, metric, _ in found}


def test_a_driver_that_does_not_start_is_one_message(library: Path) -> None:
    """The user reads that NVML does not start, as the last line."""
    env = environment(library, {"init.0": -9})
    done = subprocess.run(
        [sys.executable, "-c", READ, "null"], input="\n", capture_output=True, text=True, env=env, cwd=ROOT, check=False
    )
    assert "NVML does not start" in done.stderr.splitlines()[-2] + done.stderr.splitlines()[-1]
