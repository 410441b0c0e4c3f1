"""Which side each feature of a team belongs on, shared replicas counted once. Pure.

Moving a set of features costs F + G (n + r) with n = ceil(peak of their summed hourly demand), and saves their API bills.
With one shape of demand this is a knapsack whose size is paid for, so features go in the order of API bill per replica. Up
to EXACT features every set is tried; above, the order is followed, gaps are filled, and a bound says how far off it can be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenhour.breakeven.model.replica_curve import Floats

EXACT = 14
_FULL = 1e-9


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature as the placement sees it. `demand`: replicas it needs in each of 168 hours, shape (168,)."""

    name: str
    api_usd: float
    demand: Floats
    stays_because: str = ""
    """Why it cannot be moved; empty when it can."""


@dataclass(frozen=True, slots=True)
class Placed:
    """The answer: which features are moved (in the order given), replicas with spares, costs in USD a month."""

    moved: tuple[bool, ...]
    replicas: int
    own_usd: float
    api_usd: float
    exact: bool
    lower_bound_usd: float

    @property
    def total_usd(self) -> float:
        """Return the whole bill."""
        return self.own_usd + self.api_usd


@dataclass(frozen=True, slots=True)
class Costs:
    """What moving anything costs: fixed, a replica, spares; USD a month."""

    fixed_usd: float
    replica_usd: float
    redundancy: int = 0

    def own(self, serving: Floats) -> Floats:
        """Return the bill of each number of serving replicas; 0 for none."""
        found: Floats = np.where(serving > 0, self.fixed_usd + self.replica_usd * (serving + self.redundancy), 0.0)
        return found


def place(features: list[Feature], costs: Costs) -> Placed:
    """Place every feature; see the module's head."""
    movable = [i for i, f in enumerate(features) if not f.stays_because]
    everything = sum(f.api_usd for f in features)
    bound = everything - _most_saved(features, movable, costs)
    if not movable:
        return Placed(tuple(False for _ in features), 0, 0.0, everything, exact=True, lower_bound_usd=everything)
    demand = np.stack([features[i].demand for i in movable])
    bills = np.array([features[i].api_usd for i in movable])
    exact = len(movable) <= EXACT
    chosen = _try_all(demand, bills, costs) if exact else _in_order(demand, bills, costs)
    moved = [False] * len(features)
    for index in np.flatnonzero(chosen):
        moved[movable[index]] = True
    serving = _serving(demand[chosen].sum(axis=0)) if chosen.any() else 0
    own = float(costs.own(np.array([serving]))[0])
    api = everything - float(bills[chosen].sum())
    replicas = serving + costs.redundancy if serving else 0
    total = own + api
    return Placed(tuple(moved), replicas, own, api, exact, total if exact else min(total, bound))


def _serving(summed: Floats) -> int:
    """Return the replicas of a peak; a feature without traffic still needs one."""
    return max(1, int(np.ceil(summed.max() - _FULL)))


def _try_all(demand: Floats, bills: Floats, costs: Costs) -> NDArray[np.bool_]:
    count = len(bills)
    masks = (np.arange(1 << count)[:, None] >> np.arange(count)) & 1
    peaks = np.maximum(np.ceil((masks @ demand).max(axis=1) - _FULL), masks.any(axis=1))
    total = costs.own(peaks) - masks @ bills
    chosen: NDArray[np.bool_] = masks[int(total.argmin())].astype(bool)
    return chosen


def _in_order(demand: Floats, bills: Floats, costs: Costs) -> NDArray[np.bool_]:
    """Follow the bill per mean replica; take the best prefix, then fill what its replicas leave free."""
    order = np.argsort(-bills / np.maximum(demand.mean(axis=1), 1e-300), kind="stable")
    summed = np.cumsum(demand[order], axis=0)
    serving = np.maximum(1.0, np.ceil(summed.max(axis=1) - _FULL))
    total = costs.own(serving) - np.cumsum(bills[order])
    found: NDArray[np.bool_] = np.zeros(len(bills), dtype=bool)
    best = 0.0
    # The best prefix says about how many replicas; those are then filled with whatever still fits.
    centre = float(serving[int(total.argmin())])
    for size in {max(1.0, centre + step) for step in (-1, 0, 1)}:
        chosen = _fill(demand, order, size)
        value = float(costs.own(np.array([size]))[0] - bills[chosen].sum())
        if value < best:
            best, found = value, chosen
    return found


def _fill(demand: Floats, order: NDArray[np.intp], size: float) -> NDArray[np.bool_]:
    chosen = np.zeros(len(order), dtype=bool)
    load = np.zeros(demand.shape[1])
    for index in order:
        if (load + demand[index]).max() <= size + _FULL:
            load += demand[index]
            chosen[index] = True
    return chosen


def _most_saved(features: list[Feature], movable: list[int], costs: Costs) -> float:
    """Return what no placement can save more than: features and replicas divisible, demand flat at its mean."""
    if not movable:
        return 0.0
    bills = np.array([features[i].api_usd for i in movable])
    means = np.array([features[i].demand.mean() for i in movable])
    gains = np.maximum(0.0, bills - costs.replica_usd * means).sum()
    return float(max(0.0, gains - costs.fixed_usd - costs.replica_usd * costs.redundancy))
