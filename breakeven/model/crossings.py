"""Crossings of any step curve with an API's line, by looking at every step. Pure; `crossings` is one case in closed form."""

from __future__ import annotations

import numpy as np

from tokenhour.breakeven.model.crossings_closed_form import LISTED, Crossings, Staircase
from tokenhour.breakeven.model.crossings_closed_form import solve as closed_form
from tokenhour.breakeven.model.replica_curve import Curve, Floats
from tokenhour.contracts.records.verdict import Outcome

_LOOK = 8
"""Steps that are looked at together, at first."""


def solve(curve: Curve, replica_usd: float, replica_tokens: float, fixed_usd: float, api_usd_per_token: float) -> Crossings:
    """Find every window of volumes in which F + G months(V/C) < p V.

    `replica_usd` is a month of one replica, `replica_tokens` what it serves in a month. A fixed fleet without a minimum of
    its own goes through the closed form, with the capacity that is left at the peak.
    """
    stairs = Staircase(replica_usd, replica_tokens / curve.peak, fixed_usd, curve.rules.redundancy)
    if curve.plain:
        return closed_form(stairs, api_usd_per_token, curve.rules.max_replicas)
    worth = api_usd_per_token * replica_tokens / replica_usd
    begins, ends = windows(curve, worth, fixed_usd / replica_usd)
    if not len(begins):
        never = worth <= curve.slope
        return Crossings((), None, None, "never" if never else "beyond_capacity", None)
    lasting = ends[-1] >= curve.edges[-1] and wins_from(curve, worth, fixed_usd / replica_usd) <= curve.edges[-1]
    return _named(begins * replica_tokens, ends * replica_tokens, curve, replica_tokens, lasting=lasting)


def windows(curve: Curve, worth: float, fixed: float) -> tuple[Floats, Floats]:
    """Return begins and ends, in u, of the ranges where worth u > fixed + months(u). All costs in replica-months."""
    if worth <= 0:
        return np.empty(0), np.empty(0)
    lower = np.concatenate(([0.0], curve.edges[:-1]))
    onset = np.maximum((fixed + curve.months) / worth, lower)
    won = onset < curve.edges
    begins, ends = onset[won], curve.edges[won]
    fresh = np.concatenate(([True], begins[1:] > ends[:-1] * (1 + 1e-12))) if len(begins) else np.empty(0, dtype=bool)
    last = np.concatenate((fresh[1:], [True])) if len(begins) else fresh
    return begins[fresh], ends[last]


def wins_from(curve: Curve, worth: float, fixed: float) -> float:
    """Return a u from which self-hosting is certain to win; infinite where the API is cheaper in the long run."""
    return (fixed + curve.slack) / (worth - curve.slope) if worth > curve.slope else np.inf


def _named(begins: Floats, ends: Floats, curve: Curve, replica_tokens: float, *, lasting: bool) -> Crossings:
    found: list[tuple[float, float | None]] = [(float(a), float(b)) for a, b in zip(begins, ends, strict=True)]
    stable = found[-1][0] if lasting else None
    if lasting:
        found[-1] = (found[-1][0], None)
    first = found[0][0]
    listed = (
        found if len(found) <= LISTED else [*found[: LISTED - 1], *(found[-1:] if lasting else found[LISTED - 1 : LISTED])]
    )
    outcome: Outcome = "stable" if stable == first else "first"
    serving = int(np.ceil(np.nextafter(first / replica_tokens, np.inf) * curve.peak))
    return Crossings(tuple(listed), first, stable, outcome, serving)


def first_breakeven(curve: Curve, worth: Floats, fixed: Floats) -> Floats:
    """Return the first winning u of each draw (same shape as `worth`, `fixed`), NaN where there is none within the fleet."""
    if curve.plain:
        return _first_plain(curve, worth, fixed)
    found = np.full(worth.shape, np.nan)
    lower = np.concatenate(([0.0], curve.edges[:-1]))
    # months(u) >= mean(planned) u + r: nobody wins below this u, and nobody at all without a margin.
    margin = worth - curve.planned.mean()
    least = np.full(worth.shape, np.inf)
    np.divide((fixed + curve.rules.redundancy) * (1 - 1e-12), margin, out=least, where=margin > 0)
    step, look_at = np.searchsorted(curve.edges, least, side="left"), _LOOK
    left = np.flatnonzero(step < len(curve.edges))
    while len(left):
        look = np.minimum(step[left, None] + np.arange(look_at), len(curve.edges) - 1)
        # The same quotient as in `windows`: a crossing within a rounding of an edge is decided alike.
        onset = (fixed[left, None] + curve.months[look]) / worth[left, None]
        won = onset < curve.edges[look]
        hit, at = won.any(axis=1), won.argmax(axis=1)[:, None]
        first = np.maximum(np.take_along_axis(onset, at, 1), lower[np.take_along_axis(look, at, 1)])[:, 0]
        found[left[hit]] = first[hit]
        left = left[~hit]
        step[left] += look_at
        look_at = min(2 * look_at, 256)
        left = left[step[left] < len(curve.edges)]
    return found


def _first_plain(curve: Curve, worth: Floats, fixed: Floats) -> Floats:
    """Vectorise the closed form n1 = floor((F + G r)/(p C - G)) + 1; in units of a replica's money and peak tokens."""
    price = worth / curve.peak
    margin = price - 1.0
    spare = fixed + curve.rules.redundancy
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        step = np.floor(spare / margin) + 1.0
        onset = np.maximum((spare + step) / price, step - 1.0)
        again = onset >= step
        step = np.where(again, step + 1.0, step)
        onset = np.where(again, np.maximum((spare + step) / price, step - 1.0), onset)
        inside = (margin > 0) & (step <= curve.rules.max_replicas)
        return np.where(inside, onset / curve.peak, np.nan)
