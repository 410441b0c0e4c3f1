"""Measurements: what is probed in which order, everything raw kept, the summary derived."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tokenhour.bench.calibration.calibrate import certified
from tokenhour.bench.loadgen.subprocesses import children, sigterm_interrupts
from tokenhour.bench.loadgen.worker_count import Workers
from tokenhour.bench.measure.probe import MeasuringSession, Wish, run_undisturbed
from tokenhour.bench.recording import raw_files
from tokenhour.bench.recording.tables import LineTail
from tokenhour.bench.statistics.rate_search import Bracket, next_rate, window_s
from tokenhour.bench.summary.capacity import with_point
from tokenhour.bench.summary.finalize import RAW, conclude
from tokenhour.bench.target.discovery import SATURATION_USERS, Target, of_server
from tokenhour.bench.workload import sampling
from tokenhour.bench.workload.arrivals import native_rate_rps
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import RunFailedError
from tokenhour.contracts.io.atomic_io import disk_errors
from tokenhour.contracts.records.probe import Probe, Probes
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.standalone.generator_certificate import Certificate
from tokenhour.machine.run_folder import RunDir, now_utc

Kind = Literal["search", "sweep", "fixed"]
SWEEP_POINTS = 10
_SWEEP_LOW, _SWEEP_HIGH = 0.1, 1.0  # of the saturated rate


def run(experiment: Experiment, server: Server, run_dir: RunDir) -> Summary:
    """Measure the server of an experiment: its fixed rates where it names some, else search the SLO capacity."""
    return measure(of_server(experiment, server), run_dir)


def kind_of(target: Target) -> Kind:
    """Tell what `bench run` makes of a load: points of its own, or a search."""
    arrivals = target.spec.arrivals
    return "fixed" if arrivals.rates_rps or arrivals.concurrency else "search"


def measure(
    target: Target,
    run_dir: RunDir,
    kind: Kind | None = None,
    workers: Workers = Workers(),  # noqa: B008 (frozen)
    results: Path | None = None,
) -> Summary:
    """Measure, keep the raw records and write the summary (also of an interrupted run).

    `results`: where this machine's generator certificate is kept; it is measured there first where it is missing. None, and
    workers of other machines: no certificate.
    """
    wanted = kind or kind_of(target)
    sampling.check(target.spec)
    source = sampling.source(target.spec.workload, sampling.corpus(target.tokenizer))
    if target.spec.arrivals.process == "trace" and source.trace is not None and source.trace.times_s is not None:
        own = native_rate_rps(source.trace.times_s)
        print(f"   the trace's own mean rate is {own:.3g} requests/s; it is stretched to each rate", file=sys.stderr)
    run_dir.supersede(*RAW, Certificate.file_name)
    uncertified: str | None = "generator uncertified: no calibration was asked for"
    if results is not None and workers.host is not None:
        uncertified = "generator uncertified: the load workers of other machines are not calibrated from here"
        print(f"   {uncertified}", file=sys.stderr)
    elif results is not None:
        found, said = certified(results, workers.count)
        print(f"   {said}", file=sys.stderr)
        uncertified = said if found is None else None
        if found is not None:
            found.write(run_dir.path)
    raw = run_dir.path / raw_files.FOLDER
    with disk_errors(raw):
        raw.mkdir(parents=True)
    anchor, zero_ns, salt = now_utc(), time.monotonic_ns(), uuid.uuid4().hex
    interrupted: str | None = None
    interrupted_by: Literal["user", "failure"] | None = None
    done: list[Probe] = []
    session: MeasuringSession | None = None
    with sigterm_interrupts():
        try:
            with children(target, raw, zero_ns, workers) as crew:
                session = MeasuringSession(target, source, raw, zero_ns, salt, crew)
                _KINDS[wanted](session)
        except KeyboardInterrupt:
            interrupted, interrupted_by = "interrupted", "user"
        except RunFailedError as error:
            interrupted, interrupted_by = error.what, "failure"
        done = list(session.done) if session else []
    probes = Probes(
        clock_anchor_utc=anchor,
        clock_zero_monotonic_s=zero_ns / 1e9,
        salt=salt,
        probes=tuple(done),
        wanted=wanted,
        interrupted=interrupted,
        interrupted_by=interrupted_by,
        uncertified=uncertified,
        text_source=sampling.TEXT_SOURCE,
        cpu_priority=session.crew.priority if session else None,
    )
    probes.write(run_dir.path)
    return conclude(run_dir)


def _saturate(session: MeasuringSession) -> float:
    """Measure the peak; return the saturated completion rate, requests/s."""
    peak = run_undisturbed(session, _closed(session.target, "saturation", session.target.saturation_users))
    if peak.succeeded == 0:
        raise RunFailedError(f"no request succeeded at saturation: {_first_failure(session)}", remedy="read server.log")
    return peak.completed_rps


def _closed(target: Target, phase: str, users: int) -> Wish:
    """Wish for a closed loop with its own lead-in; what the engine takes at once then begins in the midst of its answers."""
    spec = target.spec.search
    lead_s = spec.warmup_s if spec.saturation_warmup_s is None else spec.saturation_warmup_s
    at_once = min(users, round(target.saturation_users / SATURATION_USERS))
    return Wish(phase, spec.saturation_s, users=users, lead_s=lead_s, cut=at_once if lead_s > 0 else 0)


def _first_failure(session: MeasuringSession) -> str:
    rows = (row for file in raw_files.all_rows(session.folder, 0) for row in LineTail(file).rows())
    return next((f"{r.outcome}, {r.detail}" for r in rows if r.outcome != "success"), "nothing ended in time")


def _search(session: MeasuringSession) -> None:
    """Saturate, then look for the highest rate that meets the SLO."""
    spec, slo = session.target.spec.search, session.target.spec.slo
    found = Bracket(saturated_rps=_saturate(session))
    while (step := next_rate(found, spec)) is not None:
        length_s = _window_s(session, step.rate_rps)
        wish = Wish("confirm" if step.confirms else "search", length_s, rate_rps=step.rate_rps)
        found = with_point(found, run_undisturbed(session, wish), slo)


def _window_s(session: MeasuringSession, rate_rps: float) -> float:
    spec = session.target.spec
    return window_s(rate_rps, spec.search, spec.slo, spec.arrivals.cycle_s)


def _sweep(session: MeasuringSession) -> None:
    """Measure a curve over rates, from a tenth of saturation to all of it."""
    rates = session.target.spec.arrivals.rates_rps
    top = _saturate(session)
    step = (_SWEEP_HIGH - _SWEEP_LOW) / (SWEEP_POINTS - 1)
    for rate in rates or [top * (_SWEEP_LOW + k * step) for k in range(SWEEP_POINTS)]:
        run_undisturbed(session, Wish("sweep", _window_s(session, rate), rate_rps=rate))


def _fixed(session: MeasuringSession) -> None:
    """Measure what the load names."""
    arrivals = session.target.spec.arrivals
    for users in arrivals.concurrency:
        run_undisturbed(session, _closed(session.target, "fixed", users))
    for rate in arrivals.rates_rps:
        run_undisturbed(session, Wish("fixed", _window_s(session, rate), rate_rps=rate))


_KINDS: dict[str, Callable[[MeasuringSession], None]] = {"search": _search, "sweep": _sweep, "fixed": _fixed}
