"""How many replica-months a volume needs, exactly: a step curve over u = volume / capacity of one replica. Pure.

Hourly demand in replicas is u w_t with weights w_t of mean 1. A fixed fleet has n = max(n_min, ceil(u max w) + r) replicas
in every hour. One that follows demand has n_t = max(n_min, ceil(u max(w_t .. w_{t+L})) + r), where L is the cold start, and
pays L for each replica that it starts. Both are constant between the points at which some u w_t is whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tokenhour.contracts.errors import InputError
from tokenhour.contracts.units import SECONDS_PER_HOUR

Floats = NDArray[np.float64]
_BLOCK = 1 << 22
MOST_STEPS = 20_000_000
"""Of a curve: two thousand replicas over a year of hours; more would not fit in memory."""
_FEW, _KEPT = 256, 4
"""From so many volumes on, the replica-months of so many arrays are kept."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a fleet keeps to, whatever the volume."""

    redundancy: int = 0
    min_replicas: int = 0
    max_replicas: int = 1000
    """Serving, spares not counted."""
    autoscale: bool = False
    cold_start_s: float = 0.0


@dataclass(frozen=True)
class Curve:
    """Replica-months over u. What costs time to list is listed when it is asked for: a plain fleet never needs its steps."""

    rules: Rules
    weights: Floats = field(default_factory=lambda: np.ones(1))
    """Demand of consecutive hours, mean 1; the last is followed by the first."""
    _counted: dict[tuple[tuple[int, ...], bytes], Floats] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    @cached_property
    def planned(self) -> Floats:
        """Demand that each hour must be ready for: the highest within the cold start."""
        return ahead(self.weights, self.cold_start_h) if self.rules.autoscale else np.array([self.weights.max()])

    @cached_property
    def _listed(self) -> tuple[Floats, Floats]:
        return _steps(self.planned, self.rules, self.cold_start_h if self.rules.autoscale else 0.0)

    @property
    def edges(self) -> Floats:
        """The upper ends of the steps."""
        return self._listed[0]

    @property
    def months(self) -> Floats:
        """The cost on each step."""
        return self._listed[1]

    @property
    def _boot(self) -> float:
        """What a start costs in replica-months."""
        return self.cold_start_h / len(self.planned) if self.rules.autoscale else 0.0

    @property
    def _rises(self) -> Floats:
        return np.maximum(self.planned - np.roll(self.planned, 1), 0.0)

    @property
    def slope(self) -> float:
        """Replica-months a unit of u in the long run."""
        return float(self.planned.mean() + self._boot * self._rises.sum())

    @property
    def slack(self) -> float:
        """months(u) <= slope u + slack, everywhere."""
        return 1.0 + max(self.rules.redundancy, self.rules.min_replicas) + self._boot * float((self._rises > 0).sum())

    @property
    def cold_start_h(self) -> float:
        """Cold start in hours."""
        return self.rules.cold_start_s / SECONDS_PER_HOUR

    @property
    def peak(self) -> float:
        """Busiest hour over the mean hour."""
        return float(self.weights.max())

    @property
    def plain(self) -> bool:
        """Tell whether the closed forms of `crossings` hold: a fixed fleet without a minimum of its own."""
        return not self.rules.autoscale and self.rules.min_replicas <= 1 + self.rules.redundancy

    def replica_months(self, u: Floats) -> Floats:
        """Return the replica-months of each volume, spares and starts included; same shape as `u`."""
        if not self.rules.autoscale:
            serving = np.ceil(u * self.peak)
            fixed: Floats = np.maximum(serving + self.rules.redundancy, float(self.rules.min_replicas))
            return fixed
        # Every API of a run asks for the same volumes: what was counted for the first is kept for the others.
        if u.size < _FEW:
            return self._count(u)
        key = (u.shape, u.tobytes())
        if key not in self._counted:
            if len(self._counted) >= _KEPT:
                self._counted.clear()
            self._counted[key] = self._count(u)
            self._counted[key].flags.writeable = False
        return self._counted[key]

    def _count(self, u: Floats) -> Floats:
        within = u <= self.edges[-1]
        found = np.empty_like(u)
        found[within] = self.months[np.searchsorted(self.edges, u[within], side="left")]
        found[u <= 0] = max(self.rules.redundancy, self.rules.min_replicas)
        found[~within] = self._directly(u[~within])
        return found

    def hourly(self, u: float) -> Floats:
        """Return the replicas of each hour, spares included, shape (hours,) or (1,) for a fixed fleet."""
        found: Floats = np.maximum(np.ceil(u * self.planned) + self.rules.redundancy, float(self.rules.min_replicas))
        return found

    def starts(self, u: float) -> float:
        """Return how many replicas are started in a pass through the weights."""
        n = self.hourly(u)
        return float(np.maximum(n - np.roll(n, 1), 0.0).sum())

    def _directly(self, u: Floats) -> Floats:
        """Count hour by hour, for volumes beyond the steps that are listed."""
        found = np.empty_like(u)
        block = max(1, _BLOCK // len(self.planned))
        for begin in range(0, len(u), block):
            n = np.ceil(u[begin : begin + block, None] * self.planned) + self.rules.redundancy
            n = np.maximum(n, float(self.rules.min_replicas))
            starts = np.maximum(n - np.roll(n, 1, axis=1), 0.0).sum(axis=1)
            found[begin : begin + block] = n.mean(axis=1) + self.cold_start_h / len(self.planned) * starts
        return found


def ahead(weights: Floats, hours: float) -> Floats:
    """Return for each hour the highest weight from it to `hours` later (whole hours; the weights repeat)."""
    found = weights.copy()
    for step in range(1, min(math.floor(hours), len(weights) - 1) + 1):
        found = np.maximum(found, np.roll(weights, -step))
    return found


def _steps(planned: Floats, rules: Rules, boot_h: float) -> tuple[Floats, Floats]:
    """List the steps up to the largest fleet.

    The (k+1)th replica of the hours of weight W is needed above u = k / W; there, their count joins the sum of n_t, and the
    number of starts changes by the hours that rise to W less those that rise from it.
    """
    levels, counts = np.unique(planned, return_counts=True)
    before, after = np.roll(planned, 1), planned
    rising = after > before
    starts = np.array([(rising & (after == w)).sum() - (rising & (before == w)).sum() for w in levels], dtype=np.float64)
    limit = rules.max_replicas / planned.max()
    if (asked := len(planned) * float(rules.max_replicas)) > MOST_STEPS:
        raise InputError(
            f"{rules.max_replicas:,} replicas over {len(planned)} hours are {asked:.2g} steps, more than {MOST_STEPS:,}",
            where="economics.max_replicas",
            remedy=f"think of a fleet of at most {MOST_STEPS // len(planned):,}",
        )
    ks = [np.arange(0, math.ceil(w * limit - 1e-9)) for w in levels]
    points = np.concatenate([k / w if w > 0 else k[:0] * 1.0 for k, w in zip(ks, levels, strict=True)])
    order = np.argsort(points, kind="stable")
    points = points[order]
    counted = np.concatenate([k + 1 + rules.redundancy > rules.min_replicas for k in ks])[order]
    hours = np.repeat(counts.astype(np.float64), [len(k) for k in ks])[order] * counted
    begun = np.repeat(starts, [len(k) for k in ks])[order] * counted
    idle = float(max(rules.redundancy, rules.min_replicas))
    # A clamp by n_min > r lifts no hour: the first replicas that count are those above it.
    months = idle + (np.cumsum(hours) + boot_h * np.cumsum(begun)) / len(planned)
    ends = np.append(points[1:], limit)
    wide = ends > points
    return ends[wide], months[wide]
