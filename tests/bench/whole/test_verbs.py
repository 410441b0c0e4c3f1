"""The verbs of `bench` from the command line to what their summary says: search, sweep, several workers, calibrate."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.bench.conftest import keep_certificate
from tests.bench.server import running
from tests.bench.whole.test_endpoint import LOAD, bench
from tokenhour.bench.recording.tables import read_table
from tokenhour.bench.run import SWEEP_POINTS
from tokenhour.contracts.records.probe import Probes
from tokenhour.contracts.records.request import REQUESTS_FILE, RequestRow
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.standalone.generator_certificate import Certificate

pytestmark = pytest.mark.system

# One request at a time, 80 ms each: a queue comes below saturation already.
QUEUE = {"slots": 1, "ttft_s": 0.02, "itl_s": 0.012}
SEARCH = """\
workload:
  prompt: {mean_tokens: 20}
  output: {mean_tokens: 6}
slo: {percentile: 50, ttft_s: 0.06}
search: {warmup_s: 0.1, saturation_s: 2, probe_s: 3, max_probe_s: 5, max_probes: 5, precision: 0.45}
saturation_users: 2
timeout_s: 10
inactivity_timeout_s: 5
"""


def test_a_search_saturates_then_brackets_the_capacity(tmp_path: Path) -> None:
    """Every end that the summary states is a probe of the load curve with that outcome."""
    keep_certificate(tmp_path)
    with running(**QUEUE) as toy:
        done = bench(tmp_path, toy.base_url, SEARCH, verb="search")
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found = Summary.read(tmp_path / "out")
    first, *others = found.load_curve
    assert Probes.read(tmp_path / "out").wanted == "search"
    assert (first.phase, first.concurrency, first.offered_rps) == ("saturation", 2, None)
    assert others
    assert {p.phase for p in others} <= {"search", "confirm"}
    assert len(others) <= 5
    # Chance and a busy machine decide which ends are found (tests/bench/test_search.py has exact ones): here, whatever the
    # summary states must be what its probes show.
    low, high = found.highest_passing_rps, found.lowest_failing_rps
    assert low or high
    if low:
        assert any(p.offered_rps == low and p.slo_met and p.stable for p in others)
        assert found.at_slo.rate_rps == low
        assert f"({low:.2f} requests/s{f', fails at {high:.2f}' if high else ''})" in done.stdout
    if high:
        assert high > (low or 0.0)
        assert any(p.offered_rps == high and not (p.slo_met and p.stable) for p in others)


def test_a_sweep_has_a_point_a_rate_up_to_saturation(tmp_path: Path) -> None:
    """Without named rates the points are even shares of the saturated rate."""
    keep_certificate(tmp_path)
    load = LOAD.replace("arrivals: {rates_rps: [60]}\n", "saturation_users: 2\n").replace(
        "max_probe_s: 0.8", "max_probe_s: 0.5"
    )
    with running(**QUEUE) as toy:
        done = bench(tmp_path, toy.base_url, load.replace(" probe_s: 0.8", " probe_s: 0.5"), verb="sweep")
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    peak, *curve = Summary.read(tmp_path / "out").load_curve
    assert peak.phase == "saturation"
    assert {p.phase for p in curve} == {"sweep"}
    shares = [p.offered_rps / peak.completed_rps for p in curve]
    assert shares == pytest.approx([(k + 1) / SWEEP_POINTS for k in range(SWEEP_POINTS)])


@pytest.mark.parametrize("verb", ["search", "sweep"])
def test_a_closed_loop_is_refused_by_what_tries_rates_before_any_server_is_asked(tmp_path: Path, verb: str) -> None:
    """The message names the field, and no folder is made."""
    load = LOAD.replace("{rates_rps: [60]}", "{process: closed, concurrency: [4]}")
    done = bench(tmp_path, "http://127.0.0.1:9", load, verb=verb)
    assert done.returncode == 2
    assert "arrivals.process: closed: a closed loop has no rate" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_sweep_of_named_rates_has_a_point_for_each(tmp_path: Path) -> None:
    """Rates that the user names are measured as they are, after saturation."""
    keep_certificate(tmp_path)
    with running() as toy:
        done = bench(tmp_path, toy.base_url, LOAD.replace("[60]", "[20, 40]") + "saturation_users: 2\n", verb="sweep")
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    curve = Summary.read(tmp_path / "out").load_curve
    assert [(p.phase, p.offered_rps) for p in curve] == [("saturation", None), ("sweep", 20), ("sweep", 40)]


def test_two_workers_make_one_load_from_the_command_line(tmp_path: Path) -> None:
    """`--workers 2` doubles the processes and not the load."""
    keep_certificate(tmp_path, workers=2)
    with running() as toy:
        done = bench(tmp_path, toy.base_url, more=("--workers", "2"))
        served = toy.served
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    rows = read_table(tmp_path / "out" / REQUESTS_FILE, RequestRow)
    assert {r.worker for r in rows} == {0, 1}
    assert {r.outcome for r in rows} == {"success"}
    assert {p.workers for p in Probes.read(tmp_path / "out").probes} == {2}
    found = Summary.read(tmp_path / "out")
    assert [p.offered_rps for p in found.load_curve] == [60]
    assert found.load_curve[0].token_disagreement == 0
    assert found.load_curve[0].succeeded == found.load_curve[0].requests <= len(rows) <= served


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler for the reference server")
def test_a_calibration_prints_the_whole_certificate_as_json(tmp_path: Path) -> None:
    """How long it takes, and how exact it must be, is for `make bench-self`: a busy machine is no error of ours."""
    words = [sys.executable, "-m", "tokenhour.bench", "calibrate", "--json", "--out", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["ceiling_chunks_per_s"] >= 0
    assert said["ceiling_requests_per_s"] > 0
    assert 0 < said["ttft_error_p99_s"] < 1
    assert 0 <= said["interchunk_error_p99_s"] < 1
    assert Certificate.read(tmp_path) == Certificate.parse(said, where="stdout")
