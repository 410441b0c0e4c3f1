"""The generator's processes under what would hold them up: few file descriptors, long conversations, failures at once."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.bench.conftest import experiment, keep_certificate, prepare
from tests.bench.server import running
from tests.bench.whole.test_endpoint import LOAD, words_of
from tokenhour.bench.loadgen.worker_count import Workers
from tokenhour.bench.recording.tables import read_table
from tokenhour.bench.run import measure, run
from tokenhour.bench.target.discovery import of_server
from tokenhour.contracts.records.probe import Probes
from tokenhour.contracts.records.request import REQUESTS_FILE, RequestRow
from tokenhour.contracts.records.summary import Summary

pytestmark = pytest.mark.system


def rows_of(folder: Path) -> list[RequestRow]:
    """Read the requests of a run folder."""
    return read_table(folder / REQUESTS_FILE, RequestRow)


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash, whose ulimit sets the soft limit alone")
def test_more_streams_than_the_shells_limit_of_open_files(tmp_path: Path) -> None:
    """A shell with 64 file descriptors, as one with 1024 is to 1320 streams."""
    keep_certificate(tmp_path)
    load = LOAD.replace("arrivals: {rates_rps: [60]}", "arrivals: {process: closed, concurrency: [100]}")
    with running(ttft_s=0.1) as toy:
        words = ["bash", "-c", 'ulimit -Sn 64 && exec "$@"', "bash", *words_of(tmp_path, toy.base_url, load)]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=100, check=False)
    assert done.returncode in {0, 1}, done.stderr
    assert "Traceback" not in done.stderr
    rows = rows_of(tmp_path / "out")
    assert {r.outcome for r in rows} == {"success"}
    assert len(rows) >= 100


def test_a_closed_loop_has_a_lead_in_of_its_own_and_its_first_requests_end_at_random_points(
    tmp_path: Path, model_folder: Path
) -> None:
    """The window sees a steady mix of requests instead of all starting and ending at once."""
    spec = experiment(
        workload={"prompt": {"mean_tokens": 12}, "output": {"mean_tokens": 100, "distribution": "fixed"}},
        arrivals={"process": "closed", "concurrency": [60]},
        search={"saturation_s": 1.0, "warmup_s": 0.1, "saturation_warmup_s": 0.7},
    )
    spec = spec.model_copy(update={"serving": spec.serving.model_copy(update={"max_num_seqs": 40})})
    with running(ttft_s=0.01, itl_s=0.001) as toy:
        run_dir, server = prepare(tmp_path, model_folder, toy.base_url, spec)
        summary = run(spec, server, run_dir)
    *_, probe = Probes.read(run_dir.path).probes
    assert probe.window_start_s - probe.started_s == pytest.approx(0.7)
    rows = [r for r in rows_of(run_dir.path) if r.probe == probe.probe]
    asked = {int(r.request_id.split("-")[1]): r.output_tokens_requested for r in rows}
    first = [asked[k] for k in range(40)]
    assert min(first) < 25 < 75 < max(first)
    assert {tokens for serial, tokens in asked.items() if serial >= 40} == {100}
    assert summary.mean_output_tokens == 100  # of the window
    assert {r.outcome for r in rows} == {"success"}


def test_no_turn_is_sent_after_the_lead_out(tmp_path: Path, model_folder: Path) -> None:
    """Eight turns with pauses of two seconds outlast the load by more than a request's timeout and the grace."""
    talks = {"turns": 8, "think_s": 2}
    spec = experiment(
        workload={"prompt": {"mean_tokens": 12}, "output": {"mean_tokens": 6}, "conversations": talks},
        arrivals={"rates_rps": [60]},
        search={"probe_s": 2.0, "max_probe_s": 2.0, "warmup_s": 0.2},
        timeout_s=1,
    )
    with running() as toy:
        run_dir, server = prepare(tmp_path, model_folder, toy.base_url, spec)
        summary = run(spec, server, run_dir)
    assert "does not come to an end" not in str(summary.reasons)
    (point,) = summary.load_curve
    over = point.window_start_s + point.window_s + 0.2
    rows = rows_of(run_dir.path)
    assert any(int(r.request_id.split("-")[1]) % 8 for r in rows)  # second turns were sent
    assert max(r.scheduled_s for r in rows) < over


def test_a_closed_loop_whose_requests_fail_at_once_ends(tmp_path: Path, model_folder: Path) -> None:
    """A TCP connection to the broadcast address fails before anything is waited for."""
    spec = experiment(arrivals={"process": "closed", "concurrency": [2]}, search={"saturation_s": 60, "warmup_s": 0.1})
    run_dir, server = prepare(tmp_path, model_folder, "http://255.255.255.255:1", spec)
    began = time.monotonic()
    summary = run(spec, server, run_dir)
    assert time.monotonic() - began < 40
    assert summary.validity == "INVALID"
    rows = rows_of(run_dir.path)
    assert {r.outcome for r in rows} == {"connection"}
    assert {r.detail for r in rows} == {"Network is unreachable"}


def test_a_name_that_nobody_knows_ends_the_run_and_is_named(tmp_path: Path, model_folder: Path) -> None:
    """The user reads that the host is unknown instead of counting failed requests."""
    spec = experiment(arrivals={"rates_rps": [20]}, search={"probe_s": 0.6, "max_probe_s": 0.6, "warmup_s": 0.1})
    run_dir, server = prepare(tmp_path, model_folder, "http://no-such-host.invalid:1", spec)
    summary = run(spec, server, run_dir)
    assert "the server's name is not known here" in str(summary.reasons[0])


BROKEN = """\
import sys
import tokenhour.bench.loadgen.main as generator
def fail(*_):
    raise ZeroDivisionError("a mistake of ours")
generator.Probe.fire = fail
sys.argv = ["generator", *sys.argv[1:]]
generator.main()
"""


def test_a_mistake_in_the_generator_ends_the_run_and_is_named(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash in our own load process is stated as such and not blamed on the server."""
    real = subprocess.Popen

    def popen(words: list[str], **more: Any) -> subprocess.Popen[bytes]:
        ours = words[1:3] == ["-m", "tokenhour.bench.loadgen.main"]
        return real([sys.executable, "-c", BROKEN, *words[3:]] if ours else words, **more)

    monkeypatch.setattr("tokenhour.bench.loadgen.subprocesses.subprocess.Popen", popen)
    spec = experiment(arrivals={"rates_rps": [20]}, search={"probe_s": 0.6, "max_probe_s": 0.6, "warmup_s": 0.1})
    with running() as toy:
        run_dir, server = prepare(tmp_path, model_folder, toy.base_url, spec)
        summary = measure(of_server(spec, server), run_dir, workers=Workers(1))
    assert "the load generator failed: ZeroDivisionError" in str(summary.reasons[0])
    assert json.loads((run_dir.path / Summary.file_name).read_text())["validity"] == "INVALID"
