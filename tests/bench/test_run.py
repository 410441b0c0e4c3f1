"""The instrument against a small deterministic server: real processes, real sockets, real faults."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.bench.conftest import Measured, experiment, prepare
from tests.bench.server import FAULTS, running
from tests.bench.server import Server as ToyServer
from tests.records import DISTURBANCES
from tokenhour.bench.recording import raw_files
from tokenhour.bench.recording.tables import read_table, request_rows
from tokenhour.bench.run import run
from tokenhour.bench.telemetry.sampler import counters
from tokenhour.contracts.records.probe import Probes
from tokenhour.contracts.records.request import REQUESTS_FILE, RequestRow
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.telemetry import TELEMETRY_FILE, TelemetryRow

pytestmark = pytest.mark.system


Broken = tuple[Summary, list[RequestRow], ToyServer]


def test_a_runs_tokens_agree_with_the_servers_counters(measured: Measured) -> None:
    """What the instrument counts is what the server says it produced, token for token."""
    _, summary, toy = measured
    # On a busy machine the run may be disturbed, and says so; nothing else can be wrong with it.
    assert {r.rule for r in summary.reasons} <= DISTURBANCES
    points = [*summary.load_curve, *summary.disturbed]
    whole = [p for p in points if not p.stopped_early]
    assert whole
    assert all(p.token_disagreement == 0 for p in whole)
    assert all(p.usage_prompt_tokens == 12 * p.usage_completion_tokens / 6 for p in whole if p.arrivals != "closed")
    if len(whole) == len(points):
        assert sum(p.usage_completion_tokens for p in whole) == toy.generation_tokens


def test_the_peak_is_that_of_the_server(measured: Measured) -> None:
    """4 slots, 20 ms to the first token and 4 ms a token: 4 requests of 6 tokens every 40 ms are 600 tokens/s at most."""
    _, summary, _ = measured
    assert 0 < summary.load_curve[0].output_tps <= 600
    assert summary.peak.output_tokens_per_hour.value == pytest.approx(3600 * summary.load_curve[0].output_tps)


def test_no_first_token_is_seen_before_the_server_can_have_sent_it(measured: Measured) -> None:
    """Measured TTFT cannot be below the server's own delay, nor the lag negative."""
    _, summary, _ = measured
    for point in summary.load_curve:
        assert point.ttft_from_sent.p50_s is None or point.ttft_from_sent.p50_s >= 0.02
        assert point.lag_p99_s >= 0


def test_raw_records_are_kept_and_nothing_else_is_left(measured: Measured) -> None:
    """Requests and telemetry are complete tables, and the working files are gone."""
    run_dir, summary, _ = measured
    rows = read_table(run_dir.path / REQUESTS_FILE, RequestRow)
    assert sum(p.requests for p in summary.load_curve) <= len(rows)
    good = [r for r in rows if r.outcome == "success"]
    assert all(r.completion_tokens == r.output_tokens_requested and r.prompt_tokens == 12 for r in good)
    # The first answers of the closed loop, as many as the server takes at once, are cut short.
    cut = [r for r in good if r.output_tokens_requested != 6]
    closed = {p.probe for p in (*summary.load_curve, *summary.disturbed) if p.arrivals == "closed"}
    assert {r.probe for r in cut} <= closed
    assert len(cut) <= 4 * len(closed)
    assert summary.mean_output_tokens == 6
    assert all(r.chunks == len(r.chunk_offsets_s) == len(r.chunk_tokens) for r in rows)
    sources = {(r.source, r.metric) for r in read_table(run_dir.path / TELEMETRY_FILE, TelemetryRow)}
    assert {
        ("host", "cpu_share"),
        ("engine", "generation_tokens_total"),
        ("generator", "cpu_s_total"),
        ("generator", "run_queue_wait_s_total"),
        ("host", "steal_s_total"),
        ("process", "rss_bytes"),
    } <= sources
    assert not (run_dir.path / raw_files.FOLDER).exists()


def test_the_record_says_where_the_text_of_the_prompts_comes_from(measured: Measured) -> None:
    """Readers can judge the prompts and their licence."""
    run_dir, _, _ = measured
    assert "PSF licence" in Probes.read(run_dir.path).text_source


def test_an_older_measurement_is_moved_aside_not_overwritten(measured: Measured) -> None:
    """Measuring again keeps the earlier summary."""
    run_dir, _, _ = measured
    assert (run_dir.path / "superseded/1/summary.json").read_text() == "an older one"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Broken:
    """Measure a server that breaks every second stream, each time in another way, and never keeps a connection."""
    spec = experiment(
        search={"saturation_s": 2.0, "probe_s": 0.4, "warmup_s": 0.1, "max_probes": 2, "max_probe_s": 0.4},
        inactivity_timeout_s=0.5,
    )
    with running(slots=50, faults=tuple(FAULTS), every=3, closes=True) as toy:
        run_dir, server = prepare(tmp_path_factory.mktemp("broken"), model_folder, toy.base_url, spec)
        summary = run(spec, server, run_dir)
    return summary, read_table(run_dir.path / REQUESTS_FILE, RequestRow), toy


def test_broken_streams_are_failed_requests_and_the_run_is_invalid(broken: Broken) -> None:
    """No kind of broken stream passes for a success."""
    summary, rows, _ = broken
    assert summary.validity == "INVALID"
    assert "error rate" in {r.rule for r in summary.reasons}
    assert {r.outcome for r in rows} - {"cancelled"} == {"success", *FAULTS.values()}


def test_every_kind_of_fault_says_what_happened(broken: Broken) -> None:
    """Each failed row has status and detail, and a stall ends at the inactivity timeout."""
    _, rows, _ = broken
    said = {(r.outcome, r.status, r.detail.split(":")[0]) for r in rows if r.outcome not in ("success", "cancelled")}
    assert {s for o, s, _ in said if o == "http_error"} == {429, 500, 503}
    assert all(detail for _, _, detail in said)
    stalled = [r for r in rows if r.outcome == "timeout"]
    assert all(0.5 <= r.finished_s - (r.last_token_s or r.sent_s) < 2 for r in stalled)


def test_what_a_failed_stream_brought_is_kept_with_its_times(broken: Broken) -> None:
    """Tokens before the break stay in the record, with ordered times."""
    _, rows, _ = broken
    cut = [r for r in rows if r.outcome in ("truncated", "connection", "timeout")]
    assert any(r.chunks == 3 for r in cut)
    assert all(r.first_token_s <= r.last_token_s <= r.finished_s for r in cut if r.chunks)


def test_a_refusal_is_a_failed_arrival_and_never_asked_again(broken: Broken) -> None:
    """The server counts as many requests as there are rows: 429 and 503 with Retry-After are not retried."""
    _, rows, toy = broken
    assert toy.served == len(rows)


def child(run_dir: Path, **how: Any) -> subprocess.Popen:
    """Measure in a process of its own."""
    script = (
        "import sys; from pathlib import Path; from tokenhour.bench.run import run\n"
        "from tokenhour.machine.run_folder import RunDir\n"
        "from tokenhour.contracts.config.experiment import Experiment\n"
        "from tokenhour.contracts.records.server import Server\n"
        "p = Path(sys.argv[1]); s = run(Experiment.read(p), Server.read(p), RunDir(p))\n"
        "sys.exit(int(s.validity == 'INVALID'))\n"
    )
    return subprocess.Popen([sys.executable, "-c", script, str(run_dir)], **{"stderr": subprocess.DEVNULL, **how})


def wait_for_rows(run_dir: Path) -> None:
    """Wait until the first requests are recorded."""
    deadline = time.monotonic() + 40
    while len(list(request_rows(raw_files.rows_file(run_dir / raw_files.FOLDER, 0, 0)))) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def suspended_recorder(process: subprocess.Popen[bytes]) -> psutil.Process:
    """Stop the recorder, so that what is received from now on is in the spool alone."""
    family = psutil.Process(process.pid).children(recursive=True)
    recorder = next(p for p in family if "tokenhour.bench.recording.recorder" in p.cmdline())
    recorder.suspend()
    return recorder


LONG = {"saturation_s": 60, "probe_s": 5, "warmup_s": 0.1, "max_probes": 2, "max_probe_s": 5}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_killing_the_instrument_leaves_readable_records_and_no_process(
    tmp_path: Path, model_folder: Path, number: signal.Signals
) -> None:
    """However the run is ended, its rows survive and none of its processes does."""
    spec = experiment(search=LONG)
    with running(slots=4) as toy:
        run_dir, _ = prepare(tmp_path, model_folder, toy.base_url, spec)
        process = child(run_dir.path)
        wait_for_rows(run_dir.path)
        family = psutil.Process(process.pid).children(recursive=True)
        # Beside them, where nothing may be raised, one that sets the engine back.
        assert {
            "tokenhour.bench.loadgen.main",
            "tokenhour.bench.recording.recorder",
            "tokenhour.bench.telemetry.sampler",
        } <= {p.cmdline()[2] for p in family}
        process.send_signal(number)
        process.wait(20)
        _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    if number == signal.SIGKILL:
        assert len(list(request_rows(raw_files.rows_file(run_dir.path / raw_files.FOLDER, 0, 0)))) >= 5
        assert not (run_dir.path / "summary.json").exists()
    else:
        assert process.returncode == 1
        said = json.loads((run_dir.path / "summary.json").read_text())
        assert said["validity"] == "INVALID"
        assert len(read_table(run_dir.path / REQUESTS_FILE, RequestRow)) >= 5


def test_a_generator_that_is_killed_makes_the_run_invalid_with_the_reason(tmp_path: Path, model_folder: Path) -> None:
    """A load that stopped half-way is not summarized as a light one."""
    spec = experiment(search=LONG)
    with running(slots=4) as toy:
        run_dir, _ = prepare(tmp_path, model_folder, toy.base_url, spec)
        process = child(run_dir.path)
        wait_for_rows(run_dir.path)
        for member in psutil.Process(process.pid).children():
            if "tokenhour.bench.loadgen.main" in member.cmdline():
                member.kill()
        assert process.wait(20) == 1
    said = json.loads((run_dir.path / "summary.json").read_text())
    assert "generator ended" in str(said["reasons"])


@pytest.mark.parametrize(
    ("victim", "said"),
    [
        ("tokenhour.bench.loadgen.main", "generator ended"),
        ("tokenhour.bench.recording.recorder", "the process that records the requests ended"),
    ],
)
def test_what_was_received_and_not_recorded_when_a_process_was_killed_is_readable(
    tmp_path: Path, model_folder: Path, victim: str, said: str
) -> None:
    """Requests that waited in the spool are recovered once, without loss or doubles."""
    spec = experiment(search=LONG)
    with running(slots=4) as toy:
        run_dir, _ = prepare(tmp_path, model_folder, toy.base_url, spec)
        process = child(run_dir.path)
        wait_for_rows(run_dir.path)
        recorder = suspended_recorder(process)
        before = toy.served
        while toy.served < before + 60:
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        next(p for p in family if victim in p.cmdline()).kill()
        code = process.wait(20)
        with contextlib.suppress(psutil.NoSuchProcess):
            recorder.resume()  # to hear that its parent is gone
        _, alive = psutil.wait_procs(family, timeout=10)
    assert (code, alive) == (1, [])
    assert said in str(json.loads((run_dir.path / "summary.json").read_text())["reasons"])
    rows = read_table(run_dir.path / REQUESTS_FILE, RequestRow)
    assert len({r.request_id for r in rows}) == len(rows)
    assert sum(r.outcome == "success" for r in rows) > before + 20
    assert {r.outcome for r in rows} <= {"success", "cancelled"}
    assert not (run_dir.path / raw_files.FOLDER).exists()


def test_ctrl_c_in_a_terminal_is_heard_by_the_measuring_process_alone(tmp_path: Path, model_folder: Path) -> None:
    """A terminal sends SIGINT to the whole process group."""
    spec = experiment(search=LONG)
    with running(slots=4) as toy:
        run_dir, _ = prepare(tmp_path, model_folder, toy.base_url, spec)
        with (tmp_path / "said").open("wb") as said:
            process = child(run_dir.path, stderr=said, start_new_session=True)
        wait_for_rows(run_dir.path)
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 1
        _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    assert "Traceback" not in (tmp_path / "said").read_text()
    summary = json.loads((run_dir.path / "summary.json").read_text())
    assert "interrupted" in str(summary["reasons"])
    assert len(read_table(run_dir.path / REQUESTS_FILE, RequestRow)) >= 5


def test_a_search_with_conversations_offers_and_judges_requests(tmp_path: Path, model_folder: Path) -> None:
    """Two slots of 40 ms: about 50 requests/s, which are 17 conversations/s of 3 turns."""
    spec = experiment(
        workload={"prompt": {"mean_tokens": 12}, "output": {"mean_tokens": 6}, "conversations": {"turns": 3}},
        arrivals={"process": "constant"},
        search={"saturation_s": 1.5, "probe_s": 1.5, "warmup_s": 0.4, "max_probes": 3, "max_probe_s": 1.5},
    )
    with running(slots=2, ttft_s=0.02, itl_s=0.004) as toy:
        run_dir, server = prepare(tmp_path, model_folder, toy.base_url, spec)
        summary = run(spec, server, run_dir)
    peak, *rated = summary.load_curve
    assert rated[0].offered_rps == pytest.approx(0.7 * peak.completed_rps)
    for point in rated:
        if not point.stopped_early:
            assert point.requests == pytest.approx(point.offered_rps * point.window_s, rel=0.25)
    assert rated[0].slo_met
    assert summary.highest_passing_rps >= rated[0].offered_rps
    assert {r.rule for r in summary.reasons} <= DISTURBANCES
    planned = next(p for p in Probes.read(run_dir.path).probes if p.probe == rated[0].probe).planned_requests
    assert rated[0].requests <= planned <= 1.5 * rated[0].requests  # and those that the lead-in's conversations may add


def test_a_server_without_metrics_has_no_counters() -> None:
    """Missing metrics are unknown rather than zero."""
    assert counters("http://127.0.0.1:9").prompt_tokens is None
