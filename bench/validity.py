"""Whether a run can be believed: one rule a function, each with its limit. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from contracts.bench_spec import BenchSpec
from contracts.run import LoadPoint, Reason

LAG_SHARE = 0.10  # of the tightest latency bound
GENERATOR_CPU = 0.85  # of one core
PREFIX_SLACK = 0.02
TOKEN_DISAGREEMENT = 0.005
LENGTH_MISMATCH = 0.005  # of the successful requests
ERROR_RATE = 0.01
DRIFT = 0.30  # between the halves of the saturated window
LAG_RULE, CPU_RULE, DRIFT_RULE = "client lag", "generator saturated", "no steady state at saturation"
# What another program on the machine can cause: worth measuring again.
DISTURBANCES = frozenset({LAG_RULE, CPU_RULE, DRIFT_RULE})


def reasons(
    points: Sequence[LoadPoint], at_slo: LoadPoint | None, bench: BenchSpec, wrong_lengths: float, drift: float | None
) -> tuple[Reason, ...]:
    """Return every reason why the run is INVALID; empty for a VALID one.

    `wrong_lengths`: share of successes whose output length is not what was requested. `drift`: relative difference of
    output throughput between the halves of the saturated window.
    """
    bearing = [p for p in points if p.phase == "saturation" or p is at_slo]
    return (
        *(r for p in points for r in _instrument(p, bench)),
        *(r for p in points for r in _tokens(p, bench)),
        *(r for p in bearing for r in _errors(p)),
        *_lengths(wrong_lengths),
        *_steady(drift),
        *_capacity(points, at_slo),
    )


def _instrument(point: LoadPoint, bench: BenchSpec) -> Iterator[Reason]:
    bounds = [b for b in (bench.slo.ttft_s, bench.slo.e2e_s, bench.slo.tpot_s) if b is not None]
    limit = LAG_SHARE * bounds[0]
    if point.lag_p99_s is not None and point.lag_p99_s > limit:
        yield Reason(rule=LAG_RULE, measured=f"p99 {point.lag_p99_s:.3f} s", limit=f"{limit:.3f} s", probe=point.probe)
    if point.generator_cpu_share is not None and point.generator_cpu_share > GENERATOR_CPU:
        yield Reason(
            rule=CPU_RULE,
            measured=f"{point.generator_cpu_share:.0%} of a core",
            limit=f"{GENERATOR_CPU:.0%}",
            probe=point.probe,
        )


def _tokens(point: LoadPoint, bench: BenchSpec) -> Iterator[Reason]:
    if point.token_disagreement is not None and point.token_disagreement > TOKEN_DISAGREEMENT:
        yield Reason(
            rule="token counts disagree (usage, engine counters)",
            measured=f"{point.token_disagreement:.2%}",
            limit=f"{TOKEN_DISAGREEMENT:.1%}",
            probe=point.probe,
        )
    allowed = bench.workload.declared_prefix_hit_rate + PREFIX_SLACK
    if point.prefix_hit_rate is not None and point.prefix_hit_rate > allowed:
        yield Reason(
            rule="prefix-cache hits above what the workload declares",
            measured=f"{point.prefix_hit_rate:.1%}",
            limit=f"{allowed:.1%}",
            probe=point.probe,
        )


def _errors(point: LoadPoint) -> Iterator[Reason]:
    if point.requests and point.failed / point.requests > ERROR_RATE:
        yield Reason(
            rule="error rate",
            measured=f"{point.failed / point.requests:.1%}",
            limit=f"{ERROR_RATE:.0%}",
            probe=point.probe,
        )


def _lengths(wrong: float) -> Iterator[Reason]:
    if wrong > LENGTH_MISMATCH:
        yield Reason(rule="output lengths differ from the request", measured=f"{wrong:.1%}", limit=f"{LENGTH_MISMATCH:.1%}")


def _steady(drift: float | None) -> Iterator[Reason]:
    if drift is not None and drift > DRIFT:
        yield Reason(rule=DRIFT_RULE, measured=f"halves differ by {drift:.0%}", limit=f"{DRIFT:.0%}")


def _capacity(points: Sequence[LoadPoint], at_slo: LoadPoint | None) -> Iterator[Reason]:
    peak = next((p for p in points if p.phase == "saturation"), None)
    if peak is None or peak.succeeded == 0:
        yield Reason(rule="nothing completed", measured="0 requests at saturation", limit="at least 1")
    if not any(p.phase == "search" for p in points):
        yield Reason(rule="no open-loop probe", measured="0", limit="at least 1")
    if at_slo is None and points and all(p.slo_met is None for p in points if p.phase == "search"):
        yield Reason(
            rule="too few samples for the SLO's percentile in every probe",
            measured="not estimable",
            limit="see max_probe_s",
        )
