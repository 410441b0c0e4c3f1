"""Whether a run can be believed: one rule a function, each with its limit. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tokenhour.bench.summary.lag import is_late, lag_limit_s, why_late
from tokenhour.bench.summary.load_point import drift
from tokenhour.contracts.config.bench import BenchSpec
from tokenhour.contracts.records.probe import CpuPriority
from tokenhour.contracts.records.request import RequestRow
from tokenhour.contracts.records.summary import LoadPoint, Reason

GENERATOR_CPU = 0.85  # of one core
PREFIX_SLACK = 0.02
TOKEN_DISAGREEMENT = 0.005
LENGTH_MISMATCH = 0.005  # of the successful requests
ERROR_RATE = 0.01
DRIFT = 0.30  # between the halves of the saturated window
ARRIVALS = 0.10  # of the requests that the offered rate puts into the window
SPREADS = 3  # of a Poisson count: so much is chance, 3 times in 1,000
THROTTLED = 0.05  # of the samples of a GPU
BLIND = 0.25  # of a window, without a sample of a GPU
_BLIND_S = 1.0  # and no less: a busy machine
ABOVE_SATURATION = 1.05  # of the saturated completion rate
LAG_RULE, CPU_RULE, DRIFT_RULE = "client lag", "generator saturated", "no steady state at saturation"
ENDED_RULE = "the run did not end by itself"
TURNS_RULE, ARRIVALS_RULE = "no steady state: conversations outlast warmup_s", "arrivals differ from the offered rate"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules need beside the load points."""

    kind: Literal["search", "sweep", "fixed"] = "search"
    wrong_lengths: float = 0.0
    """Share of successes whose output length is not what was requested."""
    wrong_prompts: float = 0.0
    """Prompt tokens by which requests differ from what was asked for, request by request, over those asked for."""
    drift: float | None = None
    """Relative difference of output throughput between the halves of the saturated window."""
    throttled: Mapping[int, float | None] = field(default_factory=dict)
    """For each probe, the share of samples in which a GPU's clock was throttled."""
    blind_s: Mapping[int, float] = field(default_factory=dict)
    """For each probe of a server on GPUs of this machine, the longest time of its window without a sample of one."""
    interrupted: str | None = None
    """Why the run ended before its time."""
    lost_gpus: tuple[str, ...] = ()
    """GPUs that fell off the bus during the run."""
    xids: tuple[str, ...] = ()
    """Errors that the driver reported during the run, such as `79 of GPU 0`."""
    cpu_priority: CpuPriority | None = None
    """How generator and engine shared the CPU."""
    ceiling_chunks_per_s: float | None = None
    ceiling_requests_per_s: float | None = None
    """Of the generator's certificate; None where it was not calibrated."""


def bearing(points: Sequence[LoadPoint], at_slo: LoadPoint | None) -> list[LoadPoint]:
    """Return the points that bear the result: the peak, the fixed rates, and the best rate of a search or sweep."""
    return [p for p in points if p.phase in ("saturation", "fixed") or p is at_slo]


def reasons(points: Sequence[LoadPoint], at_slo: LoadPoint | None, bench: BenchSpec, facts: Facts) -> tuple[Reason, ...]:
    """Return every reason why the run is INVALID; empty for a VALID one."""
    held = bearing(points, at_slo)
    return (
        *_whole(facts),  # first: others, such as the error rate, follow from it
        *(r for p in points for r in _instrument(p, bench, facts)),
        *(r for p in points for r in _certified(p, facts)),
        *(r for p in points for r in _tokens(p, bench)),
        *(r for p in held for r in _errors(p)),
        *(r for p in held for r in _throttling(p, facts)),
        *(r for p in held for r in _seen(p, bench, facts)),
        *(Reason(rule="a GPU was lost", measured=f"GPU {index}", limit="none") for index in facts.lost_gpus),
        *(Reason(rule="a GPU reported an error (Xid)", measured=f"Xid {said}", limit="none") for said in facts.xids),
        *_lengths(facts),
        *_steady(facts.drift),
        *(r for p in held for r in _arrivals(p, bench)),
        *_saturation(points, held),
        *_capacity(points, at_slo, facts),
    )


def disturbances(
    point: LoadPoint, rows: Sequence[RequestRow], bench: BenchSpec, priority: CpuPriority | None
) -> tuple[Reason, ...]:
    """Return what another program on the machine did to one probe (`rows`: its requests): it is worth measuring again."""
    uneven = drift(rows, point) if point.phase == "saturation" else None
    return (*_instrument(point, bench, Facts(cpu_priority=priority)), *_steady(uneven))


def _above(
    rule: str, value: float | None, limit: float | None, measured: str, allowed: str, probe: int | None = None
) -> Iterator[Reason]:
    """Yield a reason where a known value is above a known limit; `measured` and `allowed` are the formats of the two."""
    if value is not None and limit is not None and value > limit:
        yield Reason(rule=rule, measured=measured.format(value), limit=allowed.format(limit), probe=probe)


def _whole(facts: Facts) -> Iterator[Reason]:
    if facts.interrupted:
        yield Reason(rule=ENDED_RULE, measured=facts.interrupted, limit="a whole run")


def _instrument(point: LoadPoint, bench: BenchSpec, facts: Facts) -> Iterator[Reason]:
    if is_late(point, bench.slo):
        found = why_late(point, facts.cpu_priority)
        yield Reason(
            rule=LAG_RULE,
            measured=f"p99 {point.lag_p99_s:.3f} s",
            limit=f"{lag_limit_s(bench.slo):.3f} s",
            probe=point.probe,
            cause=found.cause,
            explanation=found.explanation,
            remedy=found.remedy,
        )
    yield from _above(CPU_RULE, point.generator_cpu_share, GENERATOR_CPU, "{:.0%} of a core", "{:.0%}", point.probe)


def _certified(point: LoadPoint, facts: Facts) -> Iterator[Reason]:
    asked = (
        ("{:.0f} chunks/s", point.chunks_per_s, facts.ceiling_chunks_per_s),
        ("{:.0f} requests/s", point.requests / point.window_s, facts.ceiling_requests_per_s),
    )
    for said, value, ceiling in asked:
        yield from _above("load above the generator's certificate", value, ceiling, said, said, point.probe)


def _throttling(point: LoadPoint, facts: Facts) -> Iterator[Reason]:
    share = facts.throttled.get(point.probe)
    yield from _above("GPU clock throttled", share, THROTTLED, "{:.0%} of the samples", "{:.0%}", point.probe)


def _seen(point: LoadPoint, bench: BenchSpec, facts: Facts) -> Iterator[Reason]:
    """Without samples nobody would know of a throttled, lost or broken GPU: telemetry that ended makes no run VALID."""
    blind, hz = facts.blind_s.get(point.probe), bench.telemetry_hz
    if blind is None:
        return
    limit = max(_BLIND_S, 2 / hz, BLIND * point.window_s)
    if blind > limit or blind >= point.window_s > 2 / hz:
        yield Reason(
            rule="GPU telemetry is missing",
            measured=f"no sample of a GPU for {blind:.1f} s of {point.window_s:.1f} s",
            limit=f"{min(limit, point.window_s):.1f} s",
            probe=point.probe,
        )


def _tokens(point: LoadPoint, bench: BenchSpec) -> Iterator[Reason]:
    rule = "token counts disagree (usage, engine counters, request cap)"
    yield from _above(rule, point.token_disagreement, TOKEN_DISAGREEMENT, "{:.2%}", "{:.1%}", point.probe)
    declared, repeated = bench.workload.declared_prefix_hit_rate, point.expected_prefix_hit_rate
    # What was declared, and no more than what the plan repeats: beyond that something else is being found again.
    allowed = (declared if repeated is None else min(declared, repeated)) + PREFIX_SLACK
    rule = "prefix-cache hits above what the workload declares"
    yield from _above(rule, point.prefix_hit_rate, allowed, "{:.1%}", "{:.1%}", point.probe)


def _errors(point: LoadPoint) -> Iterator[Reason]:
    share = point.failed / point.requests if point.requests else None
    yield from _above("error rate", share, ERROR_RATE, "{:.1%}", "{:.0%}", point.probe)


def _lengths(facts: Facts) -> Iterator[Reason]:
    for side, share in (("output", facts.wrong_lengths), ("prompt", facts.wrong_prompts)):
        yield from _above(f"{side} lengths differ from the request", share, LENGTH_MISMATCH, "{:.1%}", "{:.1%}")


def _steady(drift: float | None) -> Iterator[Reason]:
    yield from _above(DRIFT_RULE, drift, DRIFT, "halves differ by {:.0%}", "{:.0%}")


def _arrivals(point: LoadPoint, bench: BenchSpec) -> Iterator[Reason]:
    """The window holds as many arrivals as the rate says, but for chance; else the rate is not what was offered.

    It may hold others where a pattern (a trace, a day) is longer than the window, and fewer where conversations outlast the
    lead-in: their later turns are not there yet when the window begins. The number of arrivals has the spread of a Poisson
    count; conversations come by chance with `turns` requests each, and gamma gaps vary by 1/burstiness.
    """
    if point.offered_rps is None or point.stopped_early:
        return
    talks, arrivals = bench.workload.conversations, bench.arrivals
    wanted = point.offered_rps * point.window_s
    spread = math.sqrt(wanted * (talks.turns if talks else 1))
    if arrivals.process == "gamma":
        spread /= math.sqrt(min(1.0, arrivals.burstiness))
    off, allowed = point.requests - wanted, max(ARRIVALS * wanted, SPREADS * spread)
    least = max(0.0, 1 - allowed / wanted)
    # Records from before all rates counted requests name conversations/s: more turns than that are no fault.
    if -off > allowed or (off > allowed and not talks):
        yield Reason(
            rule=TURNS_RULE if talks else ARRIVALS_RULE,
            measured=f"{point.requests / wanted:.0%} of the offered requests came in the window",
            limit=f"{least:.0%}" if talks else f"{least:.0%} to {1 + allowed / wanted:.0%}",
            probe=point.probe,
        )


def _saturation(points: Sequence[LoadPoint], held: Sequence[LoadPoint]) -> Iterator[Reason]:
    """An open-loop figure is a steady state: completions kept up, and the engine can complete so many when saturated."""
    peak = next((p for p in points if p.phase == "saturation"), None)
    for point in held:
        if point.offered_rps is None:
            continue
        if point.stable is False:
            share = point.completed_rps / point.offered_rps
            yield Reason(
                rule="offered rate above saturation",
                measured=f"{share:.0%} of {point.offered_rps:.3g} requests/s completed, and the queue grew",
                limit="95%",
                probe=point.probe,
            )
        elif peak is not None and point.offered_rps > ABOVE_SATURATION * peak.completed_rps:
            yield Reason(
                rule="offered rate above saturation",
                measured=f"{point.offered_rps:.3g} requests/s",
                limit=f"{ABOVE_SATURATION:.2f} x {peak.completed_rps:.3g} when saturated",
                probe=point.probe,
            )


def _capacity(points: Sequence[LoadPoint], at_slo: LoadPoint | None, facts: Facts) -> Iterator[Reason]:
    if not any(p.succeeded for p in points if p.phase == "saturation" or facts.kind == "fixed"):
        yield Reason(rule="nothing completed", measured="0 requests at saturation", limit="at least 1")
    rated = [p for p in points if p.arrivals != "closed"]
    if facts.kind != "fixed" and not rated:
        yield Reason(rule="no open-loop probe", measured="0", limit="at least 1")
    if at_slo is None and points and rated and all(p.slo_met is None for p in rated):
        yield Reason(
            rule="too few samples for the SLO's percentile in every probe",
            measured="not estimable",
            limit="see max_probe_s",
        )
