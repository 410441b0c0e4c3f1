"""How sure the verdict is: Monte Carlo over all uncertain inputs, tornado one at a time, and what flips it. Pure, seeded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tokenhour.breakeven.model.cost_point import Multiples, Outcomes, Position, evaluate
from tokenhour.breakeven.model.replica_curve import Floats
from tokenhour.contracts.config.economics import EconomicsSpec
from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.verdict import Badge, Flip, MonteCarlo, Quantiles, TornadoRow
from tokenhour.contracts.units import TOKENS_PER_MTOK

Z90 = 1.2815515655446004
Z975 = 1.959963984540054
BINS = 24
_ROUNDS, _GRID = 6, 64  # (1/63)^6 of the range: ten digits
_LEAST = 0.01
Ends = tuple[float, float]


def spreads(spec: EconomicsSpec, capacity: Interval, badge: Badge) -> dict[str, Ends]:
    """Return P10 and P90 of each input as multiples; that of a measured capacity follows from its 95 % interval."""
    said = spec.uncertainty
    ends = {name: getattr(said, name) for name in ("gpu_price", "api_price", "volume", "ops", "growth")}
    found = {name: (spread.p10, spread.p90) for name, spread in ends.items()}
    low = max(_LEAST, (capacity.low if capacity.low is not None else capacity.value) / capacity.value)
    high = (capacity.high if capacity.high is not None else capacity.value) / capacity.value
    if said.capacity:
        found["capacity"] = (said.capacity.p10, said.capacity.p90)
    elif badge == "assumed":
        found["capacity"] = (low, high)
    else:
        found["capacity"] = (min(1.0, low ** (Z90 / Z975)), max(1.0, high ** (Z90 / Z975)))
    return found


def draw(ends: Mapping[str, Ends], count: int, seed: int) -> dict[str, Floats]:
    """Draw multiples of every input, each of shape (count,): two-piece log-normal, median 1, with the given P10 and P90."""
    names = sorted(ends)
    z = np.random.default_rng(seed).standard_normal((len(names), count))
    found = {}
    for row, name in zip(z, names, strict=True):
        down, up = -math.log(ends[name][0]) / Z90, math.log(ends[name][1]) / Z90
        found[name] = np.exp(np.where(row < 0, down * row, up * row))
    return found


def monte_carlo(at: Position, drawn: Mapping[str, Floats], seed: int) -> MonteCarlo:
    """Return the spread of break-even and the probability that self-hosting wins today."""
    out = evaluate(at, Multiples(*(drawn[name] for name in Multiples._fields)))
    edges, counts = _histogram(out.first_tokens)
    return MonteCarlo(
        draws=len(out.saving_usd),
        seed=seed,
        win_probability=float((out.saving_usd > 0).mean()),
        never_probability=float(np.isnan(out.first_tokens).mean()),
        first_tokens_per_month=quantiles(np.where(np.isnan(out.first_tokens), np.inf, out.first_tokens)),
        saving_usd_per_month=quantiles(out.saving_usd),
        histogram_edges_tokens=edges,
        histogram_counts=counts,
    )


def quantiles(values: Floats) -> Quantiles:
    """Return P10, P50 and P90 by order statistics; an infinite one is None."""
    count = len(values)
    ranks = [min(count - 1, math.ceil(q * count) - 1) for q in (0.1, 0.5, 0.9)]
    found = np.partition(values, ranks)[ranks]
    low, middle, high = (float(v) if math.isfinite(v) else None for v in found)
    return Quantiles(p10=low, p50=middle, p90=high)


def _histogram(first: Floats) -> tuple[tuple[float, ...], tuple[int, ...]]:
    known = np.log10(first[~np.isnan(first)])
    if not len(known):
        return (), ()
    low, high = float(known.min()), float(known.max())
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    counts, edges = np.histogram(known, bins=BINS, range=(low, high))
    return tuple(float(10**e) for e in edges), tuple(int(c) for c in counts)


def tornado(at: Position, ends: Mapping[str, Ends]) -> tuple[TornadoRow, ...]:
    """Move one input at a time to its P10 and P90; widest first."""
    names = Multiples._fields
    grid = np.ones((len(names), 2 * len(names) + 1))
    for index, name in enumerate(names):
        grid[index, 2 * index], grid[index, 2 * index + 1] = ends[name]
    out = evaluate(at, Multiples(*grid))
    rows = [_row(name, index, ends[name], out) for index, name in enumerate(names)]
    return tuple(sorted(rows, key=lambda r: -abs(r.high_saving_usd_per_month - r.low_saving_usd_per_month)))


def _row(name: str, index: int, ends: Ends, out: Outcomes) -> TornadoRow:
    low, high = float(out.saving_usd[2 * index]), float(out.saving_usd[2 * index + 1])
    now = float(out.saving_usd[-1])
    first = [float(v) for v in out.first_tokens[2 * index : 2 * index + 2]]
    return TornadoRow(
        name=name,
        low_input=ends[0],
        high_input=ends[1],
        low_saving_usd_per_month=low,
        high_saving_usd_per_month=high,
        low_first_tokens_per_month=None if math.isnan(first[0]) else first[0],
        high_first_tokens_per_month=None if math.isnan(first[1]) else first[1],
        flips=(low > 0) != (now > 0) or (high > 0) != (now > 0),
    )


def flips(at: Position, windows: Sequence[tuple[float, float | None]]) -> tuple[Flip, ...]:
    """Return how far each input must move, alone, to turn the sign of today's saving; nearest (as a ratio) first.

    `windows` are the volumes where self-hosting wins, as `steps.solve` returns them.
    """
    if at.tokens <= 0:
        return ()
    months = float(at.curve.replica_months(np.array([at.tokens / at.replica_tokens]))[0])
    own, api = at.fixed_usd + at.replica_usd * months, at.api_usd_per_token * at.tokens
    found = []
    if api > 0:
        found.append(("api_price", own / api, at.api_usd_per_token * own / api * TOKENS_PER_MTOK, "USD per M tokens"))
    if months and at.machine_usd:
        multiple = (api - at.fixed_usd) / (at.replica_usd * months)
        found.append(("gpu_price", multiple, at.machine_usd * multiple, "USD a month and replica"))
    ops = at.ops_usd + at.ops_share * at.machine_usd * months
    if ops:
        found.append(("ops", (api - own + ops) / ops, api - own + ops, "USD a month"))
    edges = [edge for window in windows for edge in window if edge and edge != at.tokens]
    if edges:
        nearest = min(edges, key=lambda edge: abs(math.log(edge / at.tokens)))
        found.append(("volume", nearest / at.tokens, nearest, "tokens a month"))
    found += _capacity_flip(at, own, api)
    kept = [Flip(name=n, multiple=m, value=v, unit=unit) for n, m, v, unit in found if m > 0 and math.isfinite(m)]
    return tuple(sorted(kept, key=lambda f: abs(math.log(f.multiple))))


def _capacity_flip(at: Position, own: float, api: float) -> list[tuple[str, float, float, str]]:
    """Narrow the capacity down, many at a time: the cost of a volume never rises with it."""
    if at.replica_usd <= 0 or api <= at.fixed_usd:
        return []

    def wins(multiples: Floats) -> NDArray[np.bool_]:
        months = at.curve.replica_months(at.tokens / (at.replica_tokens * multiples))
        won: NDArray[np.bool_] = at.fixed_usd + at.replica_usd * months < api
        return won

    low, high = (1e-3, 1.0) if own < api else (1.0, 1e3)
    for _ in range(_ROUNDS):
        grid = np.asarray(np.geomspace(low, high, _GRID), dtype=np.float64)
        won = wins(grid)
        if won[0] or not won[-1]:
            return []
        first = int(won.argmax())
        low, high = float(grid[first - 1]), float(grid[first])
    return [("capacity", high, at.replica_tokens * high, "tokens a month and replica")]
