"""Which rate to try next: a pure state machine between saturation and the SLO capacity."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from bench.metrics import samples_needed
from contracts.bench_spec import SearchSpec, SloSpec

FIRST_SHARE = 0.7
GROWTH = 1.2
CEILING = 1.05  # of the saturated completion rate: above it no queue is stable
MARGIN = 1.15  # more arrivals than the percentile wants, since their number is random


@dataclass(frozen=True, slots=True)
class Bracket:
    """What is known: the saturated rate, the highest rate that passed, the lowest that failed (requests/s)."""

    saturated_rps: float
    highest_passing_rps: float | None = None
    lowest_failing_rps: float | None = None
    tried: int = 0

    def add(self, rate_rps: float, *, passed: bool) -> Bracket:
        """Return the bracket after one more probe. A rate below a failing one that passed, or the reverse, narrows it."""
        if passed:
            high = max(rate_rps, self.highest_passing_rps or 0.0)
            return replace(self, highest_passing_rps=high, tried=self.tried + 1)
        low = min(rate_rps, self.lowest_failing_rps or math.inf)
        return replace(self, lowest_failing_rps=low, tried=self.tried + 1)


def next_rate(found: Bracket, spec: SearchSpec) -> float | None:
    """Return the next rate to offer, or None when the bracket is narrow enough, or the probes are used up.

    Starts at 0.7 of the saturated rate, grows or shrinks geometrically until both sides are known, then bisects
    (geometric mean). Never offers more than 1.05 x the saturated rate: that would fail for certain.
    """
    if found.tried >= spec.max_probes or found.saturated_rps <= 0:
        return None
    passing, failing = found.highest_passing_rps, found.lowest_failing_rps
    if passing is None and failing is None:
        return FIRST_SHARE * found.saturated_rps
    if passing is None:
        return None if failing is None else failing / GROWTH**2
    ceiling = CEILING * found.saturated_rps
    top = failing if failing is not None else ceiling
    if top <= passing * (1 + spec.precision):
        return None
    return math.sqrt(passing * top) if failing is not None else min(passing * GROWTH, ceiling)


def window_s(rate_rps: float, spec: SearchSpec, slo: SloSpec) -> float:
    """Return how long the steady window must be for the SLO's percentile to be estimable, within [probe_s, max_probe_s]."""
    wanted = MARGIN * samples_needed(slo.percentile) / rate_rps
    return min(max(wanted, spec.probe_s), spec.max_probe_s)
