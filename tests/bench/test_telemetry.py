"""NVML through the real pynvml binding on a stub library; the host; one clock; live and recorded."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.summarize import Telemetry
from bench.tables import read_table, telemetry_rows
from bench.telemetry import host_reader, tree_reader
from contracts.telemetry import TELEMETRY_FILE, TelemetryRow
from tests import nvml
from tests.nvml import LOST, NOT_SUPPORTED

ROOT = Path(__file__).parents[2]
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
def library(tmp_path_factory):
    return nvml.build(tmp_path_factory.mktemp("nvml")).parent


def environment(library, state):
    return {**os.environ, "LD_LIBRARY_PATH": str(library), "NVML_STUB": str(nvml.tell(library, state))}


READ = (
    "import json, sys; from bench.gpus import gpu_reader\n"
    "read = gpu_reader(sys.argv[1:])\n"
    "for line in sys.stdin: print(json.dumps(list(read())), flush=True)\n"
)


def read_gpus(library, *states, wanted=()):
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


def test_every_gpu_is_read_with_its_units(library):
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


@pytest.mark.parametrize("wanted", ["1", "GPU-1"])
def test_only_the_gpus_that_serve_are_read_where_they_are_named(library, wanted):
    """Another one's watts are not this server's, nor does its throttling disturb it."""
    (found,) = read_gpus(library, HEALTHY, wanted=[wanted])
    values = {metric: value for _, index, metric, value in found if index == wanted}
    assert len(values) == len(found) == 12
    assert values["energy_j"] == 5000.001


def test_what_a_gpu_does_not_support_is_absent_not_zero(library):
    state = {**HEALTHY, "energy.0": NOT_SUPPORTED}
    del state["ecc_corrected.1"]
    (found,) = read_gpus(library, state)
    seen = {(index, metric) for _, index, metric, _ in found}
    assert ("0", "energy_j") not in seen
    assert ("1", "energy_j") in seen
    assert ("1", "ecc_corrected_total") not in seen


def test_a_lost_gpu_says_so_once_and_the_other_goes_on(library):
    lost = {**HEALTHY, **{key: LOST for key in HEALTHY if key.endswith(".1")}}
    before, during, after = read_gpus(library, HEALTHY, lost, HEALTHY)
    assert {index for _, index, _, _ in before} == {"0", "1"}
    assert [(i, m) for _, i, m, _ in during if i == "1"] == [("1", "lost")]
    assert {index for _, index, _, _ in after} == {"0"}


def test_energy_is_that_of_the_servers_gpus_alone(library):
    later = {**HEALTHY, "energy.0": 9_000_000, "energy.1": 5_300_001}
    rows = [
        TelemetryRow(float(t), *sample)
        for t, samples in enumerate(read_gpus(library, HEALTHY, later, wanted=["1"]))
        for sample in samples
    ]
    assert Telemetry.of(rows).energy_j(0, 1) == pytest.approx(300)


def test_an_xid_is_told_once_with_its_gpu_and_code(library):
    broken = {**HEALTHY, "xid.1": 79}
    before, during, after = read_gpus(library, HEALTHY, broken, broken)
    assert [s for s in (*before, *after) if s[2] == "xid"] == []
    assert [s for s in during if s[2] == "xid"] == [("gpu", "1", "xid", 79.0)]


def test_the_xid_of_a_gpu_that_serves_somebody_else_is_not_ours(library):
    (found,) = read_gpus(library, {**HEALTHY, "xid.0": 31}, wanted=["1"])
    assert "xid" not in {metric for _, _, metric, _ in found}


def test_a_driver_that_does_not_start_is_one_message(library):
    env = environment(library, {"init.0": -9})
    done = subprocess.run(
        [sys.executable, "-c", READ, "null"], input="\n", capture_output=True, text=True, env=env, cwd=ROOT, check=False
    )
    assert "NVML does not start" in done.stderr.splitlines()[-2] + done.stderr.splitlines()[-1]


def test_throttling_is_told_from_the_reasons_that_slow_a_gpu():
    def rows(reasons):
        return [TelemetryRow(float(k), "gpu", "0", "throttle_reasons", float(v)) for k, v in enumerate(reasons)]

    assert Telemetry.of(rows([0x1, 0x2, 0x4, 0x0])).throttled(0, 3) == 0  # idle, a set clock, the power cap
    assert Telemetry.of(rows([0x8, 0x20, 0x40, 0x80])).throttled(0, 3) == 1  # slow-down, thermal, power brake
    assert Telemetry.of([]).throttled(0, 3) is None


def test_the_host_and_a_process_tree_are_read():
    found = {metric: value for _, _, metric, value in host_reader()()}
    assert 0 <= found["cpu_share"] <= 1
    assert found["memory_used_bytes"] > 1e6
    mine = {metric: value for _, _, metric, value in tree_reader("process", os.getpid())()}
    assert mine["rss_bytes"] > 1e6
    assert list(tree_reader("process", 2**22 + 5)()) == []


def test_samples_come_at_their_rate_on_the_runs_clock(tmp_path):
    orders = {"file": str(tmp_path / "t.jsonl"), "zero_ns": time.monotonic_ns(), "hz": 20, "gpu": False}
    orders |= {"metrics_urls": [], "engines": [os.getpid()], "generators": []}
    with subprocess.Popen(
        [sys.executable, "-m", "bench.telemetry", json.dumps(orders)], stdin=subprocess.PIPE, cwd=ROOT
    ) as process:
        deadline = time.monotonic() + 30
        while len(list(telemetry_rows(tmp_path / "t.jsonl"))) < 40:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.stdin.close()
        process.wait(10)
    rows = list(telemetry_rows(tmp_path / "t.jsonl"))
    times = [r.t_s for r in rows if r.metric == "cpu_share"]
    assert times == sorted(times)
    assert all(0 < t < 60 for t in times)
    assert {r.source for r in rows} == {"host", "process"}


def test_telemetry_alone_is_recorded_and_shown(tmp_path):
    words = [sys.executable, "-m", "bench", "telemetry", "--watch", "--out", str(tmp_path / "t"), "--seconds", "1.2"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "host cpu_share" in done.stdout
    assert {r.metric for r in read_table(tmp_path / "t" / TELEMETRY_FILE, TelemetryRow)} >= {"cpu_share"}


def test_telemetry_without_a_wish_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "telemetry"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2
    assert "give --watch, --out DIR" in done.stderr
