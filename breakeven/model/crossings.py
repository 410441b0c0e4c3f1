"""Where a staircase of replicas crosses an API's straight line. Pure; the heart of the house.

With volume V, replica capacity C, replica cost G, fixed cost F and API price p (all a month, p a token), self-hosting costs
S(V) = F + G months(V/C), the API p V. `solve` looks at every step of the fleet's curve. A fixed fleet with r spares has
months = ceil(V/C) + r, and needs no looking: it wins exactly on the union over n of
( max((F + G (n + r)) / p, (n - 1) C), n C ], from step floor((F + G r)/(p C - G)) + 1 on, and for good from step
ceil((F + G (1 + r))/(p C - G)) on, where every window touches the next. `first_of_many` is the first crossing of `solve` for
many draws at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tokenhour.breakeven.model.replica_curve import Curve, Floats
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.verdict import Outcome

LISTED = 50
LARGEST = 10**12
"""Replicas beyond which no fleet is thought of, and doubles no longer tell the steps apart."""
_TOUCHING = 1e-12
_LOOK = 8
"""Steps that are looked at together, at first."""
Windows = list[tuple[float, float | None]]


@dataclass(frozen=True, slots=True)
class Crossings:
    """Where self-hosting wins: windows (above, up to and including), the first and the lasting crossing."""

    windows: tuple[tuple[float, float | None], ...]
    first_tokens: float | None
    stable_tokens: float | None
    outcome: Outcome
    first_replicas: int | None


def solve(curve: Curve, replica_usd: float, replica_tokens: float, fixed_usd: float, api_usd_per_token: float) -> Crossings:
    """Find every window of volumes in which F + G months(V/C) < p V.

    `replica_usd` is a month of one replica, `replica_tokens` what it serves in a month. InputError names a figure that
    cannot be.
    """
    for name, value, least in (
        ("replica_usd", replica_usd, math.ulp(0.0)),
        ("replica_tokens", replica_tokens / curve.peak, math.ulp(0.0)),
        ("fixed_usd", fixed_usd, 0.0),
        ("redundancy", curve.rules.redundancy, 0.0),
        ("api_usd_per_mtok", api_usd_per_token, 0.0),
    ):
        if not least <= value < math.inf:
            remedy = f"give a number {'above' if least else 'of at least'} 0"
            raise InputError(f"{value} cannot be", where=name, remedy=remedy)
    if curve.plain:
        spares, limit = curve.rules.redundancy, min(curve.rules.max_replicas, LARGEST)
        return _Stairs(replica_usd, replica_tokens / curve.peak, fixed_usd, spares, api_usd_per_token, limit).crossings()
    worth, fixed = api_usd_per_token * replica_tokens / replica_usd, fixed_usd / replica_usd
    won = _windows(curve, worth, fixed)
    if not won:
        return Crossings((), None, None, "never" if worth <= curve.slope else "beyond_capacity", None)
    found: Windows = [(begin * replica_tokens, end * replica_tokens) for begin, end in won]
    serving = math.ceil(math.nextafter(found[0][0] / replica_tokens, math.inf) * curve.peak)
    # The last window has no end when it reaches the last step, and self-hosting is certain to win from there on.
    last = curve.edges[-1]
    certain = worth > curve.slope and (fixed + curve.slack) / (worth - curve.slope) <= last
    if not certain or won[-1][1] < last:
        return _crossings(found[:LISTED], None, serving)
    stable = found[-1][0]
    return _crossings([*found[: min(len(found), LISTED) - 1], (stable, None)], stable, serving)


def _crossings(windows: Windows, stable: float | None, replicas: int) -> Crossings:
    first = windows[0][0]
    return Crossings(tuple(windows), first, stable, "stable" if stable == first else "first", replicas)


def _windows(curve: Curve, worth: float, fixed: float) -> list[tuple[float, float]]:
    """Return begins and ends, in u, of the ranges where worth u > fixed + months(u). All costs in replica-months."""
    if worth <= 0:
        return []
    lower = np.concatenate(([0.0], curve.edges[:-1]))
    onset = np.maximum((fixed + curve.months) / worth, lower)
    won = onset < curve.edges
    begins, ends = onset[won], curve.edges[won]
    fresh = np.ones(len(begins), dtype=bool)
    fresh[1:] = begins[1:] > ends[:-1] * (1 + _TOUCHING)
    last = np.append(fresh[1:], True)[: len(begins)]
    return list(zip(begins[fresh].tolist(), ends[last].tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class _Stairs:
    """A fixed fleet beside an API: every step is one replica more, of `tokens` a month at the profile's peak."""

    usd: float
    tokens: float
    fixed_usd: float
    spares: int
    price: float
    limit: int

    def crossings(self) -> Crossings:
        """Return the windows in closed form, up to the fleet's limit; the last is open-ended when it begins within it."""
        margin = self.price * self.tokens - self.usd
        if margin <= 0:
            return Crossings((), None, None, "never", None)
        spare = self.fixed_usd + self.usd * self.spares
        first = self._first(spare / margin)
        if first is None:
            return Crossings((), None, None, "beyond_capacity", None)
        stable = max(first, math.ceil(min((spare + self.usd) / margin, 2.0 * LARGEST)))
        lasting = stable <= self.limit
        last = min(stable if lasting else self.limit + 1, first + (LISTED - 1 if lasting else LISTED))
        steps: Windows = [(self._onset(n), n * self.tokens) for n in range(first, last)]
        windows = _joined([*steps, (self._onset(stable), None)] if lasting else steps)
        return _crossings(windows, windows[-1][0] if lasting else None, first)

    def _onset(self, step: int) -> float:
        """Return the volume above which a step of the staircase lies below the API's line."""
        return max((self.fixed_usd + self.usd * (step + self.spares)) / self.price, (step - 1) * self.tokens)

    def _empty(self, step: int) -> bool:
        return self._onset(step) >= step * self.tokens

    def _first(self, quotient: float) -> int | None:
        """Return the first step with a window: floor(quotient) + 1, or the next not empty by rounding; None beyond."""
        if quotient >= self.limit:
            return None
        step, jump = math.floor(quotient) + 1, 1
        if not self._empty(step):
            return step
        while self._empty(step + jump):
            if step + jump > self.limit:
                return None
            jump *= 2
        while jump > 1:
            jump //= 2
            if self._empty(step + jump):
                step += jump
        return step + 1 if step + 1 <= self.limit else None


def _joined(windows: Windows) -> Windows:
    """Make one of windows that touch (up to rounding), and leave out empty ones."""
    found: Windows = []
    for above, to in windows:
        if to is not None and above >= to:
            continue
        before = found[-1][1] if found else None
        if before is not None and above <= before * (1 + _TOUCHING):
            found[-1] = (found[-1][0], to)
        else:
            found.append((above, to))
    return found


def first_of_many(curve: Curve, worth: Floats, fixed: Floats) -> Floats:
    """Return the first crossing of `solve` for each draw, in u; NaN where there is none within the fleet.

    `worth` is p C / G and `fixed` F / G of each draw, in replica-months; same shape.
    """
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
        # The same quotient as in `_windows`: a crossing within a rounding of an edge is decided alike.
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
    """Vectorise the closed form's first step; in units of a replica's money and peak tokens."""
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
