"""The host, a process tree and an engine are read on one clock, whatever holds one of them up."""

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import ROOT
from tests.bench.telemetry.conftest import HEALTHY, environment, wait_for
from tokenhour.bench.recording.tables import telemetry_rows
from tokenhour.bench.telemetry.sampler import (
    Sampler,
    counters,
    engine_reader,
    host_reader,
    pause_s,
    tree_reader,
    wait_reader,
)


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
