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
class Step:
    """The next probe: a rate (requests/s), and whether it repeats one that has passed."""

    rate_rps: float
    confirms: bool = False


@dataclass(frozen=True, slots=True)
class Bracket:
    """What is known: the saturated rate, the highest rate that passed, the lowest that failed (requests/s)."""

    saturated_rps: float
    highest_passing_rps: float | None = None
    lowest_failing_rps: float | None = None
    tried: int = 0
    repeats: tuple[bool, ...] = ()
    """What became of the repeats of the highest passing rate."""

    def add(self, rate_rps: float, *, passed: bool, confirms: bool = False) -> Bracket:
        """Return the bracket after one more probe. A rate below a failing one that passed, or the reverse, narrows it."""
        found = replace(self, tried=self.tried + 1)
        if confirms:
            return _judged(replace(found, repeats=(*self.repeats, passed)))
        if passed:
            return replace(found, highest_passing_rps=max(rate_rps, self.highest_passing_rps or 0.0), repeats=())
        return replace(found, lowest_failing_rps=min(rate_rps, self.lowest_failing_rps or math.inf))

    def narrow(self, precision: float) -> bool:
        """Tell whether the bracket is as narrow as asked for."""
        if self.highest_passing_rps is None:
            return False
        top = self.lowest_failing_rps if self.lowest_failing_rps is not None else CEILING * self.saturated_rps
        return top <= self.highest_passing_rps * (1 + precision)


def _judged(found: Bracket) -> Bracket:
    """Take a passing rate for a failing one when more of its probes failed than passed (the first one passed)."""
    if found.repeats.count(False) <= found.repeats.count(True) + 1:
        return found
    return replace(found, lowest_failing_rps=found.highest_passing_rps, highest_passing_rps=None, repeats=())


def next_rate(found: Bracket, spec: SearchSpec) -> Step | None:
    """Return the next probe, or None when the bracket is narrow enough and confirmed, or the probes are used up.

    Starts at 0.7 of the saturated rate, grows or shrinks geometrically until both sides are known, then bisects
    (geometric mean), then repeats the highest passing rate. Never offers more than 1.05 x the saturated rate: that would
    fail for certain. A repeat that fails is outvoted or votes down: then the search goes on below.
    """
    if found.tried >= spec.max_probes or found.saturated_rps <= 0:
        return None
    passing, failing = found.highest_passing_rps, found.lowest_failing_rps
    if found.narrow(spec.precision):
        votes = len(found.repeats)
        undecided = found.repeats.count(False) == found.repeats.count(True) + 1
        return Step(passing or 0.0, confirms=True) if votes < spec.confirm or (undecided and votes) else None
    if passing is None:
        return Step(FIRST_SHARE * found.saturated_rps if failing is None else failing / GROWTH**2)
    ceiling = CEILING * found.saturated_rps
    return Step(math.sqrt(passing * failing) if failing is not None else min(passing * GROWTH, ceiling))


def window_s(rate_rps: float, spec: SearchSpec, slo: SloSpec) -> float:
    """Return how long the steady window must be for the SLO's percentile to be estimable, within [probe_s, max_probe_s]."""
    wanted = MARGIN * samples_needed(slo.percentile) / rate_rps
    return min(max(wanted, spec.probe_s), spec.max_probe_s)
