"""Which point of a load curve is the capacity at the SLO, which the peak, and between which rates the capacity lies."""

from __future__ import annotations

from collections.abc import Sequence

from tokenhour.bench.statistics.rate_search import Bracket
from tokenhour.contracts.config.bench import SloSpec
from tokenhour.contracts.records.summary import LoadPoint


def with_point(found: Bracket, point: LoadPoint, slo: SloSpec) -> Bracket:
    """Return the search's bracket after one more probe."""
    known = None if point.slo_met is None else point.missed_share
    may = 1 - slo.percentile / 100
    return found.add(point.offered_rps or 0.0, passed=point.passed, missed=known, may=may)


def bracket_of(points: Sequence[LoadPoint], slo: SloSpec) -> Bracket:
    """Judge the probes of a search together, as the search itself did."""
    found = Bracket(0.0)
    for point in points:
        found = with_point(found, point, slo)
    return found


def ends(kind: str, points: Sequence[LoadPoint], slo: SloSpec) -> tuple[LoadPoint | None, float | None]:
    """Return the best point and the lowest failing rate above it; a rate of too few samples was not seen to fail."""
    seen = {p.offered_rps for p in points if p.slo_met is not None}
    if kind == "search":
        found = bracket_of(points, slo)
        best = next((p for p in points if p.offered_rps == found.highest_passing_rps and p.passed), None)
        failing = [rate for rate, excess in found.pooled().items() if excess > 0 and rate in seen]
    else:
        best = best_point(points)
        failing = [p.offered_rps for p in points if p.offered_rps in seen and not p.passed and p.offered_rps]
    return best, min((rate for rate in failing if best is None or rate > (best.offered_rps or 0.0)), default=None)


def best_point(points: Sequence[LoadPoint]) -> LoadPoint | None:
    """Return the point of the highest rate that met the SLO, where its repeats do not outvote it."""

    def holds(point: LoadPoint) -> bool:
        votes = [p.passed for p in points if p.offered_rps == point.offered_rps]
        return votes.count(True) >= votes.count(False)

    return max((p for p in points if p.passed and holds(p)), key=lambda p: p.offered_rps or 0.0, default=None)


def repeats_of(best: LoadPoint | None, points: Sequence[LoadPoint]) -> list[LoadPoint]:
    """Return all whole probes at the rate of `best`."""
    return [p for p in points if best is not None and p.offered_rps == best.offered_rps and not p.stopped_early]


def peak_point(points: Sequence[LoadPoint]) -> LoadPoint | None:
    """Return the saturated probe, or the one of the highest throughput where none was made."""
    saturated = next((p for p in points if p.phase == "saturation"), None)
    return saturated or max(points, key=lambda p: p.output_tps, default=None)
