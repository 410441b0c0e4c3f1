"""The months ahead: growth, drifts, the price changes that the tables know, payback and whether it lasts. Pure."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tokenhour.breakeven.model.cost_point import Position
from tokenhour.breakeven.model.replica_curve import Floats
from tokenhour.contracts.records.verdict import MonthPoint, Projection

MONTHS_A_YEAR = 12
BAND_DRAWS = 500


@dataclass(frozen=True, slots=True)
class PricePath:
    """What changes over the horizon. Arrays have shape (months,); the first month is today's."""

    growth_per_year: float
    discount_rate_per_year: float
    api_factor: Floats
    """API price over today's."""
    gpu_factor: Floats
    """Price of the machine over today's."""
    setup_usd: float
    """Spent before the first month."""
    amortised_setup_usd: float
    """Part of the position's fixed cost that stands for it."""
    capital_usd: float
    """Of a replica that is bought; 0 for a rented one."""
    cash_share: float
    """Of a replica's price that leaves the till every month: 1 for a rented one."""
    notes: tuple[str, ...] = ()


def month_date(start: dt.date, months: int) -> dt.date:
    """Return the date `months` later, the day kept within the month."""
    year, month = divmod(start.month - 1 + months, MONTHS_A_YEAR)
    return dt.date(start.year + year, month + 1, min(start.day, 28))


def drift(rate_per_year: float, months: int) -> Floats:
    """Return (1 + rate)^(t/12) for t = 0 .. months - 1."""
    found: Floats = (1.0 + rate_per_year) ** (np.arange(months) / MONTHS_A_YEAR)
    return found


def project(at: Position, path: PricePath, drawn: Mapping[str, Floats]) -> Projection:
    """Project month by month, with P10/50/90 of the cumulative saving over the draws."""
    one = {name: np.ones(1) for name in ("volume", "growth", "capacity", "gpu_price", "api_price", "ops")}
    tokens, api, own, replicas, cumulative = _run(at, path, one)
    bands = _bands(_run(at, path, {name: values[:BAND_DRAWS] for name, values in drawn.items()})[-1])
    months = [
        MonthPoint(
            month=t + 1,
            tokens=float(tokens[0, t]),
            api_usd=float(api[0, t]),
            self_host_usd=float(own[0, t]),
            replicas=float(replicas[0, t]),
            cumulative_saving_usd=float(cumulative[0, t]),
            cumulative_p10_usd=float(bands[0, t]),
            cumulative_p50_usd=float(bands[1, t]),
            cumulative_p90_usd=float(bands[2, t]),
        )
        for t in range(len(path.api_factor))
    ]
    line = [m.cumulative_saving_usd for m in months]
    payback = payback_month(line)
    reverts = next((m.month for m in months if payback and m.month > payback and m.cumulative_saving_usd < 0), None)
    cheaper = api[0] > own[0]
    turns = tuple(int(t) + 2 for t in np.flatnonzero(cheaper[1:] != cheaper[:-1]))
    return Projection(
        months=tuple(months),
        payback_month=payback,
        reverts_month=reverts,
        crossings_months=turns,
        npv_usd=line[-1],
        notes=path.notes,
    )


def _bands(cumulative: Floats) -> Floats:
    """Return P10, P50 and P90 of every month by order statistics, shape (3, months)."""
    count = len(cumulative)
    ranks = [min(count - 1, math.ceil(q * count) - 1) for q in (0.1, 0.5, 0.9)]
    found: Floats = np.partition(np.ascontiguousarray(cumulative.T), ranks, axis=1)[:, ranks].T
    return found


def payback_month(cumulative: Sequence[float]) -> int | None:
    """Return the first month (from 1) whose cumulative saving is above zero: set-up and capital are covered."""
    return next((t + 1 for t, value in enumerate(cumulative) if value > 0), None)


def _run(at: Position, path: PricePath, by: Mapping[str, Floats]) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return tokens, API bill, own bill, replicas and cumulative discounted saving, each of shape (draws, months)."""
    t = np.arange(len(path.api_factor))
    growth = np.maximum((1 + path.growth_per_year) * by["growth"], 1e-9)[:, None]
    tokens = at.tokens * by["volume"][:, None] * growth ** (t / MONTHS_A_YEAR)
    u = tokens / (at.replica_tokens * by["capacity"][:, None])
    replicas = at.curve.replica_months(u.ravel()).reshape(u.shape)
    machine = at.machine_usd * by["gpu_price"][:, None] * path.gpu_factor
    ops = by["ops"][:, None]
    fixed = at.ops_usd * ops + at.other_usd - path.amortised_setup_usd
    own = replicas * machine * (path.cash_share + at.ops_share * ops) + fixed
    api = at.api_usd_per_token * by["api_price"][:, None] * path.api_factor * tokens
    discount = (1 + path.discount_rate_per_year) ** (-(t + 1) / MONTHS_A_YEAR)
    saved = (api - own) * discount - _capital(at, path, u)
    return tokens, api, own, replicas, np.cumsum(saved, axis=1) - path.setup_usd


def _capital(at: Position, path: PricePath, u: Floats) -> Floats:
    """Return the discounted price of the machines that each month buys: those above the most that stood before."""
    if not path.capital_usd:
        return np.zeros_like(u)
    rules = at.curve.rules
    needed = np.maximum(np.ceil(u * at.curve.peak) + rules.redundancy, float(rules.min_replicas))
    most = np.maximum.accumulate(needed, axis=1)
    bought = np.diff(most, axis=1, prepend=0.0)
    begin = (1 + path.discount_rate_per_year) ** (-np.arange(u.shape[1]) / MONTHS_A_YEAR)
    found: Floats = bought * path.capital_usd * begin
    return found
