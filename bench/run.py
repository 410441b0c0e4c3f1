"""The measuring process: drive generator and telemetry through the search, keep everything raw, derive the summary."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from bench import workload
from bench.search import Bracket, next_rate, window_s
from bench.summarize import Raw, Telemetry, load_point, passed, summarize
from bench.tables import read_table, request_rows, telemetry_rows, write_table
from bench.telemetry import counters
from contracts.bench_spec import BenchSpec
from contracts.checkpoint import Checkpoint
from contracts.errors import RunFailedError
from contracts.experiment import Experiment
from contracts.lineage import measurement_inputs
from contracts.probe import Probe, Probes
from contracts.progress import Status
from contracts.request import REQUESTS_FILE, RequestRow
from contracts.run import LoadPoint, Summary
from contracts.rundir import RunDir, now_utc
from contracts.server import Server
from contracts.store import disk_errors, sha256_file
from contracts.telemetry import TELEMETRY_FILE, TelemetryRow

# More users than slots, so that the engine's batch stays full.
SATURATION_USERS = 1.5
_RAW = (Summary.file_name, Probes.file_name, REQUESTS_FILE, TELEMETRY_FILE, "raw")


@dataclass(slots=True)
class Bench:
    """One measuring session against one server."""

    spec: BenchSpec
    server: Server
    text: workload.Ints
    folder: Path
    zero: float
    salt: str
    generator: subprocess.Popen[bytes]
    done: list[Probe] = field(default_factory=list)

    def clock(self) -> float:
        """Seconds on the run's clock."""
        return time.monotonic() - self.zero

    def file(self, probe: int) -> Path:
        """Where the generator streams a probe's requests."""
        return self.folder / f"requests-{probe}.jsonl"


def run(experiment: Experiment, server: Server, run_dir: RunDir) -> Summary:
    """Search the SLO capacity of `server`, keep the raw records and write the summary (also of an interrupted run)."""
    run_dir.supersede(*_RAW)
    raw = run_dir.path / "raw"
    with disk_errors(raw):
        raw.mkdir()
    anchor, zero, salt = now_utc(), time.monotonic(), uuid.uuid4().hex
    text = workload.corpus(Path(server.checkpoint_path) / "tokenizer.json")
    interrupted: str | None = None
    with _sigterm_interrupts(), _children(experiment, server, raw, zero) as generator:
        bench = Bench(experiment.bench, server, text, raw, zero, salt, generator)
        try:
            _search(bench, experiment.serving.max_num_seqs)
        except KeyboardInterrupt:
            interrupted = "interrupted"
        except RunFailedError as error:
            interrupted = error.what
    probes = Probes(
        clock_anchor_utc=anchor, clock_zero_monotonic_s=zero, salt=salt, probes=tuple(bench.done), interrupted=interrupted
    )
    probes.write(run_dir.path)
    return _conclude(run_dir)


def _conclude(run_dir: RunDir) -> Summary:
    """Turn the streamed lines into tables, derive the summary from those, and drop the lines."""
    raw = run_dir.path / "raw"
    requests = [row for file in sorted(raw.glob("requests-*.jsonl")) for row in request_rows(file)]
    write_table(run_dir.path / REQUESTS_FILE, requests, RequestRow)
    write_table(run_dir.path / TELEMETRY_FILE, telemetry_rows(raw / "telemetry.jsonl"), TelemetryRow)
    summary = derive(run_dir)
    summary.write(run_dir.path)
    for file in raw.iterdir():
        file.unlink()
    raw.rmdir()
    return summary


def derive(run_dir: RunDir) -> Summary:
    """Derive the summary from the records in the run folder."""
    path = run_dir.path
    experiment, server = Experiment.read(path), Server.read(path)
    found = Raw(
        Probes.read(path),
        read_table(path / REQUESTS_FILE, RequestRow),
        read_table(path / TELEMETRY_FILE, TelemetryRow),
    )
    inputs = measurement_inputs(experiment, Checkpoint.sha256_in(path), server.engine, server.accelerator)
    files = {name: sha256_file(path / name) for name in (Server.file_name, Probes.file_name, REQUESTS_FILE, TELEMETRY_FILE)}
    return summarize(experiment, Checkpoint.read(path), server, found, {**inputs, **files})


def _search(bench: Bench, max_num_seqs: int) -> None:
    """Saturate, then look for the highest rate that meets the SLO."""
    spec = bench.spec.search
    peak = _probe(bench, "saturation", None, max(2, round(SATURATION_USERS * max_num_seqs)), spec.saturation_s)
    if peak.succeeded == 0:
        raise RunFailedError(f"no request succeeded at saturation: {_first_failure(bench)}", remedy="read server.log")
    found = Bracket(saturated_rps=peak.completed_rps)
    while (rate := next_rate(found, spec)) is not None:
        point = _probe(bench, "search", rate, None, window_s(rate, spec, bench.spec.slo))
        found = found.add(rate, passed=passed(point))


def _first_failure(bench: Bench) -> str:
    rows = request_rows(bench.file(0))
    return next((f"{r.outcome}, {r.detail}" for r in rows if r.outcome != "success"), "nothing ended in time")


def _probe(bench: Bench, phase: Any, rate: float | None, users: int | None, length_s: float) -> LoadPoint:
    """Run one probe: lead-in, window, lead-out of the same load, then drain."""
    number, edge_s = len(bench.done), bench.spec.search.warmup_s
    horizon = edge_s + length_s + edge_s
    title = f"probe {number}: " + (f"{users} users, saturated" if rate is None else f"{rate:.2f} requests/s")
    asks = _asks(bench, number, rate, users, horizon)
    before = counters(bench.server.base_url)
    started = time.monotonic() + 0.25
    plan = _plan(bench, number, users, started, horizon, asks)
    with Status(title) as status:
        stopped = _wait(bench, number, plan, started + edge_s, length_s, status)
        after = counters(bench.server.base_url)
        drained = bench.clock()
        window = length_s if stopped is None else max(1.0, stopped - (started - bench.zero) - edge_s)
        probe = Probe(
            probe=number,
            phase=phase,
            arrivals="closed" if rate is None else "poisson",
            offered_rps=rate,
            concurrency=users,
            started_s=started - bench.zero,
            window_start_s=started - bench.zero + edge_s,
            window_s=window,
            drained_s=drained,
            stopped_early=stopped is not None,
            before=before,
            after=after,
        )
        point = load_point(probe, request_rows(bench.file(number)), Telemetry(), bench.spec)
        status.update(describe(point))
    bench.done.append(probe)
    return point


def describe(point: LoadPoint) -> str:
    """Say a probe's outcome in a line."""
    judged = "" if point.arrivals == "closed" else ", SLO met" if passed(point) else f", SLO missed ({_why(point)})"
    return (
        f"{point.output_tps:.0f} output + {point.input_tps:.0f} input tokens/s, {point.completed_rps:.2f} requests/s{judged}"
    )


def _why(point: LoadPoint) -> str:
    return "; ".join((*point.slo_reasons, *(() if point.stable else ("the queue grew",))))


def _asks(bench: Bench, number: int, rate: float | None, users: int | None, horizon_s: float) -> list[dict[str, Any]]:
    spec = bench.spec.workload
    if rate is not None:
        arrivals = workload.poisson_arrivals(rate, horizon_s, workload.arrival_rng(spec.seed, number))
        return [asdict(ask) for ask in workload.asks(spec, bench.text, number, bench.salt, arrivals)]
    # A closed loop takes as many as it can: enough for 100 requests a second a user.
    return [
        asdict(ask)
        for ask in workload.asks(spec, bench.text, number, bench.salt, min(20_000, int((users or 1) * horizon_s * 10)))
    ]


def _plan(
    bench: Bench, number: int, users: int | None, started: float, horizon_s: float, asks: list[dict[str, Any]]
) -> Path:
    orders = {
        "probe": number,
        "base_url": bench.server.base_url,
        "model_id": bench.server.model_id,
        "concurrency": users,
        "zero_monotonic_s": bench.zero,
        "start_monotonic_s": started,
        "horizon_s": horizon_s,
        "timeout_s": bench.spec.timeout_s,
        "inactivity_timeout_s": bench.spec.inactivity_timeout_s,
        "file": str(bench.file(number)),
        "asks": asks,
    }
    path = bench.folder / f"plan-{number}.json"
    with disk_errors(path):
        path.write_text(json.dumps(orders))
    return path


def _wait(bench: Bench, number: int, plan: Path, window_start: float, length_s: float, status: Status) -> float | None:
    """Wait until the generator says the probe is done; return when it was stopped early (run's clock), or None."""
    _tell(bench, {"plan": str(plan)})
    stopped: float | None = None
    while not _said_done(bench, 0.5):
        rows = request_rows(bench.file(number))
        left = max(0.0, window_start + length_s - time.monotonic())
        failed = sum(r.outcome != "success" for r in rows)
        status.update(f"{len(rows)} done, {failed} failed, {left:.0f} s of the window left")
        if stopped is None and len(rows) >= 20 and failed > len(rows) / 2:
            # Nothing can be learnt from a server that refuses most requests.
            stopped = bench.clock()
            _tell(bench, {"cancel": True})
    return stopped


def _tell(bench: Bench, order: dict[str, Any]) -> None:
    pipe = bench.generator.stdin
    if pipe is None:
        raise AssertionError
    try:
        pipe.write(json.dumps(order).encode() + b"\n")
        pipe.flush()
    except BrokenPipeError as error:
        raise RunFailedError("the load generator ended", where="bench.generator", remedy="see its output above") from error


def _said_done(bench: Bench, timeout_s: float) -> bool:
    pipe = bench.generator.stdout
    if pipe is None:
        raise AssertionError
    if not select.select([pipe], [], [], timeout_s)[0]:
        return False
    line = pipe.readline()
    if not line:
        raise RunFailedError("the load generator ended", where="bench.generator", remedy="see its output above")
    return "done" in json.loads(line)


@contextlib.contextmanager
def _children(experiment: Experiment, server: Server, raw: Path, zero: float) -> Iterator[subprocess.Popen[bytes]]:
    """Start generator and telemetry; both end with the block, and with this process if it is killed."""
    environment = {**os.environ, "TOKENHOUR_PARENT_PID": str(os.getpid())}
    generator = subprocess.Popen(
        [sys.executable, "-m", "bench.generator"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    orders = {
        "file": str(raw / "telemetry.jsonl"),
        "zero_monotonic_s": zero,
        "hz": experiment.bench.telemetry_hz,
        "gpu": server.accelerator.kind == "cuda",
        "base_url": server.base_url,
        "trees": {"process": server.engine_pid, "generator": generator.pid},
    }
    telemetry = subprocess.Popen(
        [sys.executable, "-m", "bench.telemetry", json.dumps(orders)], stdin=subprocess.PIPE, env=environment
    )
    try:
        # The generator's first line says that Locust has been loaded.
        if generator.stdout is None or not generator.stdout.readline():
            raise RunFailedError("the load generator did not start", where="bench.generator", remedy="make doctor")
        yield generator
    finally:
        for child in (generator, telemetry):
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        if child.stdin is not None:
            child.stdin.close()
    try:
        child.wait(2.0)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout is not None:
        child.stdout.close()


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C: what was recorded is kept and summarised as INVALID."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
