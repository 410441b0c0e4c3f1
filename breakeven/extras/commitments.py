"""How much to reserve against a distribution of demand, over several clouds as one portfolio. Exact and pure.

Demand is cut into layers, one per unit; layer j is needed during q_j of the time, falling with j. A reserved unit costs the
same whatever q, one by the hour costs its price times q: so the most used layers are reserved, with the cheapest
reservations, and the rest takes the cheapest hourly units, most used first. Only their number is to be chosen, and every one
is tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenhour.breakeven.model.replica_curve import Floats
from tokenhour.contracts.errors import InputError


@dataclass(frozen=True, slots=True)
class Option:
    """Prices an hour of one unit of capacity, and how many units there are. None: not offered."""

    name: str
    reserved_usd: float | None
    on_demand_usd: float | None
    max_reserved: int
    max_on_demand: int
    per_instance: float = 1.0


@dataclass(frozen=True, slots=True)
class ReservePlan:
    """Units reserved and mean units by the hour of each option, and the cost of an hour."""

    reserved: tuple[int, ...]
    on_demand_mean: tuple[float, ...]
    usd_per_hour: float
    all_on_demand_usd_per_hour: float | None


def utilizations(demand: Floats) -> Floats:
    """Return for each unit j (from 1) the share of samples in which demand exceeds j - 1 units; shape (peak,)."""
    needed = np.ceil(demand - 1e-9)
    peak = int(needed.max(initial=0))
    found: Floats = 1.0 - np.searchsorted(np.sort(needed), np.arange(1, peak + 1), side="left") / len(needed)
    return found


def _units(options: list[Option], price: str, limit: str, peak: int) -> tuple[Floats, list[int]]:
    """List the `peak` cheapest units: their prices and the options that they belong to."""
    rows = [
        (getattr(o, price), i, min(peak, getattr(o, limit))) for i, o in enumerate(options) if getattr(o, price) is not None
    ]
    units = [(usd, i) for usd, i, count in sorted(rows) for _ in range(count)][:peak]
    return np.array([usd for usd, _ in units], dtype=np.float64), [i for _, i in units]


def cheapest(options: list[Option], demand: Floats) -> ReservePlan:
    """Return the cheapest plan that carries every sample of the demand; InputError where the limits do not suffice."""
    q = utilizations(demand)
    peak = len(q)
    reserved, reserved_of = _units(options, "reserved_usd", "max_reserved", peak)
    hourly, hourly_of = _units(options, "on_demand_usd", "max_on_demand", peak)
    fewest, most = max(0, peak - len(hourly)), len(reserved)
    if fewest > most:
        raise InputError(
            f"the options carry {len(hourly) + len(reserved)} of {peak} replicas at the peak",
            where="economics.commitments.options",
            remedy="raise max_reserved or max_on_demand, or add an option",
        )
    paid = np.concatenate(([0.0], np.cumsum(reserved)))
    totals = {k: float(paid[k] + hourly[: peak - k] @ q[k:]) for k in range(fewest, most + 1)}
    best = min(totals, key=lambda k: (totals[k], k))
    counts, means = [0] * len(options), [0.0] * len(options)
    for index in reserved_of[:best]:
        counts[index] += 1
    for index, share in zip(hourly_of, q[best:], strict=False):
        means[index] += float(share)
    return ReservePlan(tuple(counts), tuple(means), totals[best], totals.get(0))
