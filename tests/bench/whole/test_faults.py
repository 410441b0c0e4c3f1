"""What breaks under a run: a server that dies, a full disk, a jumping clock, a trickle. All for real."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.conftest import by_command, experiment, prepare
from tests.bench.server import FAULTS, running
from tests.records import DISTURBANCES
from tokenhour.bench.calibration import reference_server
from tokenhour.bench.recording import raw_files
from tokenhour.bench.recording.tables import read_table, request_rows
from tokenhour.contracts.records.request import REQUESTS_FILE, RequestRow

pytestmark = pytest.mark.system

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler here")


@needs_compiler
def test_a_run_against_a_server_that_dies_ends_within_the_inactivity_timeout(tmp_path: Path, model_folder: Path) -> None:
    """The engine is killed in mid-stream: what it had sent is recorded, everything after it is a failure."""
    spec = experiment(
        arrivals={"process": "closed", "concurrency": [4]},
        search={"saturation_s": 60, "warmup_s": 0.1},
        inactivity_timeout_s=1.0,
    )
    with reference_server.running(0.02, 0.01, "--model", "toy") as server:
        run_dir, _ = prepare(tmp_path, model_folder, server.base_url, spec)
        killed = []

        def kill() -> None:
            while not raw_files.rows_file(run_dir.path / raw_files.FOLDER, 0, 0).is_file():
                time.sleep(0.05)
            time.sleep(0.5)
            killed.append(time.monotonic())
            server.process.kill()

        threading.Thread(target=kill, daemon=True).start()
        code, summary = by_command(tmp_path, run_dir)
        spent = time.monotonic() - killed[0]
    assert code == 1
    assert summary.validity == "INVALID"
    assert "the server does not answer any more" in summary.reasons[0].measured
    assert "error rate" in {r.rule for r in summary.reasons}
    assert spent < 45  # of 60 s that were planned; most of it is the summary on a busy machine
    rows = read_table(run_dir.path / REQUESTS_FILE, RequestRow)
    assert {"success", "connection"} <= {r.outcome for r in rows}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB (a tmpfs, so that filling it hurts nobody)."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here (root is needed)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


RUN = (
    "import sys; from pathlib import Path; from tokenhour.bench.run import run\n"
    "from tokenhour.machine.run_folder import RunDir\n"
    "from tokenhour.contracts.errors import exit_code_of\n"
    "from tokenhour.contracts.config.experiment import Experiment\n"
    "from tokenhour.contracts.records.server import Server\n"
    "p = Path(sys.argv[1])\n"
    "sys.exit(exit_code_of(lambda: run(Experiment.read(p), Server.read(p), RunDir(p))))\n"
)


def test_a_full_disk_ends_the_run_with_its_reason_and_keeps_what_was_recorded(model_folder: Path, small_disk: Path) -> None:
    """The user reads that space ran out, and the rows up to then are whole."""
    spec = experiment(
        arrivals={"process": "closed", "concurrency": [8]},
        search={"saturation_s": 60, "warmup_s": 0.1},
        workload={"prompt": {"mean_tokens": 12}, "output": {"mean_tokens": 200}},
    )
    with running(slots=8, ttft_s=0.001, itl_s=0.0005) as toy:
        run_dir, _ = prepare(small_disk, model_folder, toy.base_url, spec)
        began = time.monotonic()
        words = [sys.executable, "-c", RUN, str(run_dir.path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        spent = time.monotonic() - began
    assert done.returncode == 1, done.stderr
    assert "no space left" in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert spent < 50
    rows = list(request_rows(raw_files.rows_file(run_dir.path / raw_files.FOLDER, 0, 0)))
    assert len(rows) >= 5
    assert {r.outcome for r in rows} <= {"success", "cancelled"}


BRIEF = {"arrivals": {"rates_rps": [20]}, "search": {"probe_s": 0.6, "max_probe_s": 0.6, "warmup_s": 0.1}}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_run_whose_streams_break_ends_with_exit_code_1(tmp_path: Path, model_folder: Path, kind: str) -> None:
    """A script that calls bench learns of the INVALID run by its exit code."""
    spec = experiment(**BRIEF, inactivity_timeout_s=0.5)
    with running(faults=(kind,), every=2) as toy:
        run_dir, _ = prepare(tmp_path, model_folder, toy.base_url, spec)
        code, summary = by_command(tmp_path, run_dir)
    assert code == 1
    assert "error rate" in {r.rule for r in summary.reasons}
    outcomes = {r.outcome for r in read_table(run_dir.path / REQUESTS_FILE, RequestRow)}
    assert outcomes - {"cancelled"} == {"success", FAULTS[kind]}


def test_a_run_that_nothing_happens_to_ends_with_exit_code_0(tmp_path: Path, model_folder: Path) -> None:
    """Success means VALID; only a disturbance by the machine may say otherwise."""
    spec = experiment(arrivals={"rates_rps": [50]}, search={"probe_s": 1.5, "max_probe_s": 1.5, "warmup_s": 0.1})
    with running() as toy:
        run_dir, _ = prepare(tmp_path, model_folder, toy.base_url, spec)
        code, summary = by_command(tmp_path, run_dir)
    assert {r.rule for r in summary.reasons} <= DISTURBANCES  # a busy machine
    assert code == int(bool(summary.reasons))


def test_a_trickle_is_slow_and_not_a_failure_until_the_whole_time_is_over(tmp_path: Path, model_folder: Path) -> None:
    """Steady tokens never hit the inactivity timeout, but the total timeout ends the request."""
    spec = experiment(
        arrivals={"rates_rps": [20]}, search={"probe_s": 0.6, "max_probe_s": 0.6, "warmup_s": 0.1}, timeout_s=0.4
    )
    with running(faults=("trickle",), every=2, itl_s=0.01) as toy:
        run_dir, _ = prepare(tmp_path, model_folder, toy.base_url, spec)
        code, summary = by_command(tmp_path, run_dir)
    assert code == 1
    assert "error rate" in {r.rule for r in summary.reasons}
    rows = read_table(run_dir.path / REQUESTS_FILE, RequestRow)
    slow = [r for r in rows if r.outcome == "timeout"]
    assert slow
    assert all("longer than 0.4 s" in r.detail and r.chunks for r in slow)


def test_a_run_records_durations_from_the_monotonic_clock_alone(tmp_path: Path, model_folder: Path) -> None:
    """The wall clock of the whole instrument jumps an hour a second, by a preloaded clock_gettime."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("no C compiler for the stepping clock")
    source = tmp_path / "clock.c"
    source.write_text(
        "#define _GNU_SOURCE\n#include <time.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n"
        "int clock_gettime(clockid_t id, struct timespec *t) {\n"
        "  long r = syscall(SYS_clock_gettime, id, t);\n"
        "  struct timespec m;\n"
        "  if (id == CLOCK_REALTIME) { syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &m); t->tv_sec += 3600 * m.tv_sec; }\n"
        "  return (int)r;\n}\n"
    )
    library = tmp_path / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    spec = experiment(arrivals={"rates_rps": [40]}, search={"probe_s": 0.6, "max_probe_s": 0.6, "warmup_s": 0.1})
    with running(ttft_s=0.02, itl_s=0.004) as toy:
        run_dir, _ = prepare(tmp_path, model_folder, toy.base_url, spec)
        code, summary = by_command(tmp_path, run_dir, LD_PRELOAD=str(library))
    # A busy machine may disturb the run, which says so then; the clock is no reason.
    assert {r.rule for r in summary.reasons} <= DISTURBANCES
    assert code == int(bool(summary.reasons))
    rows = [r for r in read_table(run_dir.path / REQUESTS_FILE, RequestRow) if r.outcome == "success"]
    assert rows
    assert all(0.02 <= r.first_token_s - r.sent_s < 5 for r in rows)
    assert all(0 < r.scheduled_s < 60 for r in rows)
