"""One measuring session: what a run keeps between its probes, and single probes through its processes."""

from __future__ import annotations

import io
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tokenhour.bench.loadgen.probe_plan import ProbePlan
from tokenhour.bench.loadgen.subprocesses import Crew, said_done, tell
from tokenhour.bench.measure.live_view import Live, ProbeTimes
from tokenhour.bench.recording import raw_files
from tokenhour.bench.recording.tables import LineTail, telemetry_rows
from tokenhour.bench.statistics.early_stop import certain_to_miss, hopeless
from tokenhour.bench.summary.load_point import load_point
from tokenhour.bench.summary.validity import disturbances
from tokenhour.bench.target.discovery import Target
from tokenhour.bench.target.liveness import Pulse
from tokenhour.bench.telemetry.sampler import counters
from tokenhour.bench.telemetry.series import Telemetry
from tokenhour.bench.workload import arrivals, sampling
from tokenhour.bench.workload.request_plan import Ask
from tokenhour.contracts.config.bench import WorkloadSpec
from tokenhour.contracts.errors import RunFailedError
from tokenhour.contracts.io.atomic_io import disk_errors, write_bytes_atomic
from tokenhour.contracts.records.probe import EngineCounters, Probe
from tokenhour.contracts.records.request import RequestRow
from tokenhour.contracts.records.summary import LoadPoint

_LEAD_S = 0.15  # between the plan and the probe's zero: building the plan's first requests
_LEAD_PER_ASK_S = 20e-6  # the plan is written, read and prepared
_CREW_LEAD_S = 2.0  # several workers: the plan travels, and clocks are compared
_GRACE_S = 5.0  # beyond the last timeout, before a generator that says nothing is given up
_CLOSED_RPS_PER_USER = 10.0
_AGAIN, _AGAIN_EACH = 3, 2  # how often what was disturbed is measured again: in a run, and of one probe


@dataclass(slots=True)
class MeasuringSession:
    """What a run keeps between probes."""

    target: Target
    source: sampling.PromptSource
    folder: Path
    zero_ns: int
    salt: str
    crew: Crew
    done: list[Probe] = field(default_factory=list)
    points: list[LoadPoint] = field(default_factory=list)
    repeats: int = 0
    """How often a probe was measured again."""

    def clock(self) -> float:
        """Seconds on the run's clock."""
        return (time.monotonic_ns() - self.zero_ns) / 1e9


@dataclass(frozen=True, slots=True)
class Wish:
    """A probe to be made."""

    phase: Any
    length_s: float
    rate_rps: float | None = None
    """Requests/s, every turn of a conversation counted."""
    users: int | None = None
    seed: int | None = None
    """Other arrivals and lengths than those of the probe's own number."""
    lead_s: float | None = None
    """Lead-in; None: the spec's warmup_s."""
    instead_of: int | None = None
    """The disturbed probe that it measures again."""
    cut: int = 0
    """How many of a closed loop's first conversations end at random points, so that it is steady soon."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a probe came to its end."""

    stopped_s: float | None = None
    """When it was stopped early, on the run's clock; None where it was not."""
    lost: str = ""
    """Why the server does not answer any more; empty where it does."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A probe that was made: its figures, and the requests that they are of."""

    point: LoadPoint
    rows: list[RequestRow]


def run_undisturbed(session: MeasuringSession, wish: Wish) -> LoadPoint:
    """Run a probe, and again where something else used the machine; the last one stands, disturbed or not.

    Raises RunFailedError as `run_probe` does.
    """
    made = run_probe(session, wish)
    for _ in range(_AGAIN_EACH):
        why = disturbances(made.point, made.rows, session.target.spec, session.crew.priority)
        if not why or session.repeats >= _AGAIN:
            break
        session.repeats += 1
        said = "; ".join(reason.found() for reason in why)
        print(f"   probe {made.point.probe} was disturbed ({said}): measuring it again", file=sys.stderr)
        made = run_probe(session, replace(wish, instead_of=made.point.probe))
    return made.point


def run_probe(session: MeasuringSession, wish: Wish) -> Measured:
    """Run one probe: lead-in, window, lead-out of the same load, then drain.

    Raises RunFailedError when it cannot, and when the server was lost meanwhile: then the probe is kept with what it has.
    """
    spec, number = session.target.spec, len(session.done)
    edge_s = spec.search.warmup_s
    lead_in_s = edge_s if wish.lead_s is None else wish.lead_s
    horizon = lead_in_s + wish.length_s + edge_s
    planned = _plan_asks(session, number, wish, horizon)
    begun, before = telemetry_files(session), read_counters(session.target)
    lead_s = (_LEAD_S if session.crew.workers == 1 else _CREW_LEAD_S) + len(planned) * _LEAD_PER_ASK_S
    started_ns = time.monotonic_ns() + int(lead_s * 1e9)
    start_s = (started_ns - session.zero_ns) / 1e9
    window = (start_s + lead_in_s, wish.length_s)
    inside = sampling.most_inside(planned, _think_s(spec.workload), lead_in_s, lead_in_s + wish.length_s)
    plan = _write_plan(session, number, wish, started_ns, horizon, planned)
    with Live(_title(number, wish), session.folder / raw_files.TELEMETRY) as status:
        shown = ProbeTimes(*window, lead_in_s, edge_s)
        ended = _watch(session, number, plan, shown, inside, status)
        stopped = ended.stopped_s
        after = EngineCounters() if ended.lost else read_counters(session.target)
        probe = Probe(
            probe=number,
            phase=wish.phase,
            arrivals="closed" if wish.rate_rps is None else spec.arrivals.process,
            offered_rps=wish.rate_rps,
            concurrency=wish.users,
            started_s=start_s,
            window_start_s=window[0],
            window_s=wish.length_s if stopped is None else min(wish.length_s, max(1.0, stopped - window[0])),
            drained_s=session.clock(),
            stopped_early=stopped is not None,
            before=before,
            after=after,
            planned_requests=inside if wish.rate_rps is not None else None,
            planned_window_s=wish.length_s,
            workers=session.crew.workers,
            expected_prefix_hit_rate=sampling.expected_hit_rate(spec.workload, planned, warm=number > 0),
            instead_of=wish.instead_of,
        )
        rows = session_rows(session, number)
        point = load_point(probe, rows, telemetry_since(session, begun), spec)
        status.update(describe(point))
    session.done.append(probe)
    session.points.append(point)
    if ended.lost:
        what = f"the server does not answer any more: {ended.lost}"
        raise RunFailedError(what, where=session.target.base_url, remedy="see the server's log, and measure again")
    return Measured(point, rows)


def session_rows(session: MeasuringSession, number: int) -> list[RequestRow]:
    """Read a probe's rows of all workers."""
    return [row for file in raw_files.all_rows(session.folder, number) for row in LineTail(file).rows()]


def telemetry_files(session: MeasuringSession) -> dict[Path, int]:
    """Return the files of samples with their sizes now, in bytes."""
    return {file: file.stat().st_size for file in raw_files.all_telemetry(session.folder)}


def telemetry_since(session: MeasuringSession, begun: dict[Path, int]) -> Telemetry:
    """Read the samples that were written after `begun`, of which `telemetry_files` told the sizes."""
    rows = [row for file in telemetry_files(session) for row in telemetry_rows(file, begun.get(file, 0))]
    return Telemetry.of(rows, on_cpu=session.target.accelerator.kind == "cpu")


def read_counters(target: Target) -> EngineCounters:
    """Add up the engine counters of all replicas; None where one of them offers none."""
    found = [counters(url, key_env=target.key_env) for url in target.metrics_urls]

    def total(name: str) -> float | None:
        values = [getattr(one, name) for one in found]
        return None if not values or any(v is None for v in values) else float(sum(values))

    return EngineCounters(**{name: total(name) for name in EngineCounters.model_fields})


def describe(point: LoadPoint) -> str:
    """Say a probe's outcome in a line."""
    judged = "" if point.arrivals == "closed" else ", SLO met" if point.passed else f", SLO missed ({_why(point)})"
    return (
        f"{point.output_tps:.0f} output + {point.input_tps:.0f} input tokens/s, {point.completed_rps:.2f} requests/s{judged}"
    )


def _why(point: LoadPoint) -> str:
    return "; ".join((*point.slo_reasons, *(() if point.stable else ("the queue grew",))))


def _title(number: int, wish: Wish) -> str:
    load = f"{wish.users} at once" if wish.rate_rps is None else f"{wish.rate_rps:.3g} requests/s"
    return f"probe {number} ({wish.phase}): {load}"


def _plan_asks(session: MeasuringSession, number: int, wish: Wish, horizon_s: float) -> list[list[Ask]]:
    spec, seed = session.target.spec, number if wish.seed is None else wish.seed
    if wish.rate_rps is None:
        # A closed loop takes as many as it can; the generator begins again with other salts when these are used up.
        users = wish.users or 1
        count = max(100, 2 * users, min(5000, int(users * horizon_s * _CLOSED_RPS_PER_USER)))
        found = sampling.asks(spec.workload, session.source, seed, count, serial_from=number)
        return sampling.staggered(found, wish.cut, np.random.default_rng([spec.workload.seed, seed, 3]))
    trace = session.source.trace
    times = arrivals.schedule(
        spec.arrivals,
        wish.rate_rps / sampling.turns_of(spec.workload),  # what arrives is conversations
        horizon_s,
        arrivals.rng_of(spec.workload.seed, seed),
        trace.times_s if trace else None,
    )
    return sampling.asks(spec.workload, session.source, seed, times, serial_from=number)


def _think_s(spec: WorkloadSpec) -> float:
    return spec.conversations.think_s if spec.conversations else 0.0


def _write_plan(
    session: MeasuringSession, number: int, wish: Wish, started_ns: int, horizon_s: float, planned: list[list[Ask]]
) -> Path:
    target, spec = session.target, session.target.spec
    corpus, path = session.folder / raw_files.CORPUS, raw_files.plan_file(session.folder, number)
    prefix = spec.workload.shared_prefix
    plan = ProbePlan(
        raw=session.folder,
        probe=number,
        worker=0,
        workers=session.crew.workers,
        joined=session.crew.joined,
        base_url=target.base_url,
        model_id=target.model_id,
        dialect=target.dialect,
        tokenizer=str(target.tokenizer) if target.tokenizer else None,
        template_tokens=target.template_tokens,
        key_env=target.key_env,
        salt=session.salt,
        prefix_tokens=prefix.tokens if prefix else 0,
        think_s=_think_s(spec.workload),
        concurrency=wish.users,
        cut=wish.cut,
        zero_ns=session.zero_ns,
        start_ns=started_ns,
        horizon_s=horizon_s,
        timeout_s=spec.timeout_s,
        inactivity_timeout_s=spec.inactivity_timeout_s,
        talks=planned,
    )
    with disk_errors(path):
        if not corpus.exists():
            buffer = io.BytesIO()
            np.save(buffer, session.source.text)
            write_bytes_atomic(corpus, buffer.getvalue())
        plan.write(path)
    return path


def _watch(session: MeasuringSession, number: int, plan: Path, shown: ProbeTimes, planned: int, status: Live) -> Ended:
    """Wait until the generator says the probe is done; stop it once its outcome is certain or the server is lost."""
    tell(session.crew.generator, {"plan": str(plan)})
    spec = session.target.spec
    pulse = Pulse(session.target.base_url, spec.inactivity_timeout_s)
    stopped, lost = None, ""
    rows: list[RequestRow] = []
    tails: dict[Path, LineTail] = {}
    window = shown.start_s, shown.window_s
    latest = shown.start_s + shown.window_s + shown.lead_out_s + spec.timeout_s + _GRACE_S

    def read_new() -> None:
        for file in raw_files.all_rows(session.folder, number):
            rows.extend(tails.setdefault(file, LineTail(file, chunks=False)).rows())

    while not said_done(session.crew, 0.4, str(session.folder)):
        read_new()
        status.show(rows, shown, session.clock())
        if session.clock() > latest:
            raise RunFailedError(
                "the load generator does not come to an end", where="tokenhour.bench.loadgen.main", remedy="run it again"
            )
        lost = lost or pulse.lost(rows, session.clock())
        if stopped is None and (lost or _is_certain(rows, window, planned, spec)):
            stopped = session.clock()
            tell(session.crew.generator, {"cancel": True})
    read_new()
    # A server that was lost just before the end would be found so by the next probe, after all of its time.
    return Ended(stopped, lost or pulse.lost(rows, session.clock(), wait=True))


def _is_certain(rows: list[RequestRow], window: tuple[float, float], planned: int, spec: Any) -> bool:
    if hopeless(rows):
        return True
    inside = [r for r in rows if window[0] <= r.scheduled_s < window[0] + window[1]]
    return bool(planned) and not spec.arrivals.rates_rps and certain_to_miss(inside, planned, spec.slo)
