"""NVML through the real pynvml binding on a stub library; the host; one clock; live and recorded."""

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import ROOT, nvml
from tests.nvml import LOST, NOT_SUPPORTED
from tokenhour.bench.recording import raw_files
from tokenhour.bench.recording.tables import read_table, telemetry_rows
from tokenhour.bench.telemetry.sampler import (
    Sampler,
    counters,
    engine_reader,
    host_reader,
    pause_s,
    tree_reader,
    wait_reader,
)
from tokenhour.bench.telemetry.series import Telemetry
from tokenhour.contracts.records.telemetry import TELEMETRY_FILE, TelemetryRow

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


def test_throttling_is_told_from_the_reasons_that_slow_a_gpu() -> None:
    """Idle clocks, set clocks and the power cap are no throttling; heat and power brakes are."""

    def rows(reasons: list[int]) -> list[TelemetryRow]:
        return [TelemetryRow(float(k), "gpu", "0", "throttle_reasons", float(v)) for k, v in enumerate(reasons)]

    assert Telemetry.of(rows([0x1, 0x2, 0x4, 0x0])).throttled(0, 3) == 0  # idle, a set clock, the power cap
    assert Telemetry.of(rows([0x8, 0x20, 0x40, 0x80])).throttled(0, 3) == 1  # slow-down, thermal, power brake
    assert Telemetry.of([]).throttled(0, 3) is None


def test_the_host_and_a_process_tree_are_read() -> None:
    """CPU share needs two readings; a process that does not exist gives no sample."""
    read = host_reader()
    assert "cpu_share" not in {metric for _, _, metric, _ in read()}, "a share of no time is none"
    time.sleep(0.1)
    found = {metric: value for _, _, metric, value in read()}
    assert 0 <= found["cpu_share"] <= 1
    assert found["memory_used_bytes"] > 1e6
    mine = {metric: value for _, _, metric, value in tree_reader("process", os.getpid())()}
    assert mine["rss_bytes"] > 1e6
    assert list(tree_reader("process", 2**22 + 5)()) == []


@contextlib.contextmanager
def sampling(folder: Path, env: dict[str, str] | None = None, **orders: Any) -> Iterator[Path]:
    """Run the telemetry process; yields the file that it writes into."""
    file = folder / "t.jsonl"
    base = {"file": str(file), "zero_ns": time.monotonic_ns(), "hz": 10, "gpu": False, "metrics_urls": []}
    words = [
        sys.executable,
        "-m",
        "tokenhour.bench.telemetry.sampler",
        json.dumps({**base, "engines": [], "generators": [], **orders}),
    ]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=env, text=True) as process:
        yield file
        said = process.communicate(timeout=10)[1]
    assert process.returncode == 0, said
    (folder / "said").write_text(said)


def wait_for(file: Path, metric: str, count: int) -> None:
    """Wait until a metric has so many samples."""
    deadline = time.monotonic() + 30
    while sum(r.metric == metric for r in telemetry_rows(file)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def gaps_of(file: Path, metric: str, index: str = "") -> np.ndarray:
    """Return the seconds between the samples of a metric."""
    times = np.asarray([r.t_s for r in telemetry_rows(file) if (r.metric, r.index) == (metric, index)])
    assert np.all((times > 0) & (times < 60))
    return np.diff(times)


def test_gpus_are_sampled_ten_times_a_second_whatever_the_engine_does(library: Path, tmp_path: Path) -> None:
    """Its /metrics takes the question and never answers; no reading makes up for a late one in the same breath."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        sampling(
            tmp_path,
            environment(library, HEALTHY),
            gpu=True,
            metrics_urls=[f"http://127.0.0.1:{silent.getsockname()[1]}"],
            engines=[os.getpid()],
        ) as file,
    ):
        wait_for(file, "cpu_share", 35)
    for gaps in (gaps_of(file, "cpu_share"), gaps_of(file, "power_w", "0"), gaps_of(file, "power_w", "1")):
        assert len(gaps) >= 30
        assert np.median(gaps) == pytest.approx(0.1, abs=0.02)
        assert sum(gaps < 0.02) <= 1  # a busy machine may delay the time of one of two
    assert {r.source for r in telemetry_rows(file)} == {"host", "gpu", "process"}


def test_a_tick_that_has_passed_is_left_out_and_so_is_one_too_near() -> None:
    """A late sampler skips ticks instead of catching up in a burst."""
    assert pause_s(0.0, 1.0, started_s=5.0, now_s=5.25) == pytest.approx(0.75)
    assert pause_s(0.0, 1.0, started_s=5.0, now_s=8.5) == pytest.approx(0.5)  # three ticks went by
    assert pause_s(0.0, 1.0, started_s=5.75, now_s=5.8) == pytest.approx(1.2)  # woken late: not again after 0.25


def test_without_nvml_the_rest_is_recorded_and_the_reason_said(library: Path, tmp_path: Path) -> None:
    """A broken driver costs the GPU's figures, not the run."""
    with sampling(tmp_path, environment(library, {"init.0": -9}), gpu=True) as file:
        wait_for(file, "cpu_share", 2)
    said = (tmp_path / "said").read_text()
    assert "no GPU is read: GPU telemetry: NVML does not start" in said
    assert "Traceback" not in said


class Guarded(http.server.BaseHTTPRequestHandler):
    """An engine whose /metrics wants the key."""

    def do_GET(self) -> None:
        """Give metrics to whoever has the key."""
        good = self.headers["Authorization"] == "Bearer secret-key"
        self.send_response(200 if good else 401)
        self.end_headers()
        self.wfile.write(b'vllm:prompt_tokens_total{engine="0"} 7\n' if good else b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_metrics_are_read_with_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers behind a key have counters too, and one silent replica voids the sum."""
    with http.server.HTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("THE_KEY", "secret-key")
        assert counters(url, key_env="THE_KEY").prompt_tokens == 7
        assert list(engine_reader([url], key_env="THE_KEY")()) == [("engine", "", "prompt_tokens_total", 7.0)]
        assert counters(url).prompt_tokens is None
        dead = "http://127.0.0.1:9"
        assert list(engine_reader([url, dead], key_env="THE_KEY")()) == []  # the sum of one alone would fall
        server.shutdown()


def test_a_reader_that_fails_ends_the_sampling_with_its_error() -> None:
    """A full disk or broken reader is reported instead of leaving a silent gap."""

    def broken() -> Iterator[tuple[str, str, str, float]]:
        raise OSError("no space")

    def wait(pause_s: float) -> bool:
        time.sleep(pause_s)
        return False

    taken: list[object] = []
    sampler = Sampler([(0.01, [lambda: iter([("host", "", "x", 1.0)])]), (0.01, [broken])], taken.append)
    with pytest.raises(OSError, match="no space"):
        sampler.run(wait)
    assert taken


def test_telemetry_alone_is_recorded_and_shown(tmp_path: Path) -> None:
    """`bench telemetry` records without any load, and prints what it reads."""
    words = [
        sys.executable,
        "-m",
        "tokenhour.bench",
        "telemetry",
        "--watch",
        "--out",
        str(tmp_path / "t"),
        "--seconds",
        "1.2",
    ]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "host cpu_share" in done.stdout
    rows = read_table(tmp_path / "t" / TELEMETRY_FILE, TelemetryRow)
    assert sum(r.metric == "cpu_share" for r in rows) >= 6
    assert all(0 <= r.t_s < 30 for r in rows)
    assert f"{len(rows)} readings in" in done.stdout
    assert not (tmp_path / "t" / raw_files.TELEMETRY).exists()


def test_a_recording_that_stands_already_is_not_replaced(tmp_path: Path) -> None:
    """The folder may be that of a finished run."""
    (tmp_path / TELEMETRY_FILE).write_text("of a run")
    words = [sys.executable, "-m", "tokenhour.bench", "telemetry", "--out", str(tmp_path), "--seconds", "0.1"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 2
    assert "a recording stands here already" in done.stderr
    assert (tmp_path / TELEMETRY_FILE).read_text() == "of a run"


def test_a_recording_that_is_killed_stays_readable(tmp_path: Path) -> None:
    """What was sampled before a kill is on disk line by line."""
    words = [sys.executable, "-m", "tokenhour.bench", "telemetry", "--out", str(tmp_path)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(tmp_path / raw_files.TELEMETRY, "cpu_share", 5)
        process.kill()
    assert len([r for r in telemetry_rows(tmp_path / raw_files.TELEMETRY) if r.metric == "cpu_share"]) >= 5


def test_telemetry_without_a_wish_is_refused() -> None:
    """A recording that would show and keep nothing is pointed at its options."""
    done = subprocess.run(
        [sys.executable, "-m", "tokenhour.bench", "telemetry"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2
    assert "give --watch, --out DIR" in done.stderr


def test_the_key_goes_to_the_engine_and_to_no_proxy() -> None:
    """By itself urllib would hand 127.0.0.1 to http_proxy. In a process of its own: it remembers its first proxy."""
    heard = []

    class Engine(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append((self.connection.getsockname()[1], self.headers.get("Authorization")))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"vllm:num_requests_running 3\n")

        def log_message(self, *_: object) -> None:
            pass

    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engine) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    engine, proxy = (server.server_port for server in servers)
    script = (
        "import sys; from tokenhour.bench.telemetry import sampler as s\nprint(s.read_engine(sys.argv[1], key_env='SECRET'))"
    )
    settings = {"SECRET": "s3cret", "http_proxy": f"http://127.0.0.1:{proxy}", "no_proxy": ""}
    words = [sys.executable, "-c", script, f"http://127.0.0.1:{engine}"]
    subprocess.run(words, env={**os.environ, **settings}, cwd=ROOT, check=True, capture_output=True, timeout=60)
    for server in servers:
        server.shutdown()
        server.server_close()
    assert heard == [(engine, "Bearer s3cret")]


def test_what_a_process_waited_for_a_cpu_and_what_the_hypervisor_kept_only_grow() -> None:
    """Both are counters in seconds, so that differences over a window make sense."""
    read, host = wait_reader("generator", os.getpid(), "1"), host_reader()

    def readings() -> tuple[float, float]:
        waited = list(read())
        stolen = [sample for sample in host() if sample[2] == "steal_s_total"]
        assert [sample[:3] for sample in waited] == [("generator", "1", "run_queue_wait_s_total")]
        assert len(stolen) == 1
        return waited[0][3], stolen[0][3]

    first = readings()
    subprocess.run(["true"], check=True)  # whoever waits for another gives the CPU away
    assert all(after >= before >= 0 for before, after in zip(first, readings(), strict=True))


def test_a_process_that_has_ended_waits_for_nothing() -> None:
    """Telemetry survives the end of a generator."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert list(wait_reader("generator", process.pid)()) == []
