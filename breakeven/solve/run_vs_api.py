"""One run beside one API: every crossing, how sure it is, what flips it, what comes of it. Pure."""

from __future__ import annotations

import numpy as np

from tokenhour.breakeven.inputs import traffic as today
from tokenhour.breakeven.model import crossings, replica_cost, uncertainty
from tokenhour.breakeven.model.cost_point import Position
from tokenhour.breakeven.model.efficiency import efficiency
from tokenhour.breakeven.model.hybrid import optimum
from tokenhour.breakeven.model.projection import project
from tokenhour.breakeven.model.replica_curve import Curve
from tokenhour.breakeven.prices.tables import blended_usd_per_mtok
from tokenhour.breakeven.solve.price_path import api_rows, later, path
from tokenhour.breakeven.solve.run_context import Business
from tokenhour.contracts.config.economics import ApiChoice
from tokenhour.contracts.config.prices import ApiPrice
from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.verdict import Comparison, Hybrid, Window
from tokenhour.contracts.units import HOURS_PER_MONTH, TOKENS_PER_MTOK


def compare(found: Business, choice: ApiChoice, price: ApiPrice) -> Comparison:
    """Find the crossings of one run with one API, and how sure they are."""
    spec, traffic = found.question.economics, found.traffic
    per_mtok = blended_usd_per_mtok(price, today.mix_for(choice, spec, traffic), choice.tokens_ratio, spec.rates)
    at = found.position(per_mtok / TOKENS_PER_MTOK)
    crossed = crossings.solve(found.curve, at.replica_usd, at.replica_tokens, at.fixed_usd, at.api_usd_per_token)
    first = crossed.first_tokens
    api_usd, own_usd = at.api_usd_per_token * at.tokens, at.self_host_usd(at.tokens)
    # A window begins just above its edge.
    u_first = float(np.nextafter(first / at.replica_tokens, np.inf)) if first is not None else None
    serving = crossed.first_replicas if first is not None else None
    usage = found.replica.usd_per_hour * HOURS_PER_MONTH / at.replica_tokens * TOKENS_PER_MTOK
    return Comparison(
        price=price,
        blended_usd_per_mtok=per_mtok,
        api_usd_per_month=api_usd,
        self_host_usd_per_month=own_usd,
        saving_usd_per_month=api_usd - own_usd,
        windows=tuple(Window(above=a, to=b) for a, b in crossed.windows),
        first_tokens_per_month=first,
        first_interval=_first_interval(found, at, first),
        stable_tokens_per_month=crossed.stable_tokens,
        outcome=crossed.outcome,
        replicas_at_breakeven=serving,
        utilization_at_breakeven=_utilization_at(found.curve, u_first, serving),
        cost_at_breakeven=(
            replica_cost.lines(spec, found.curve, found.replica.usd_per_hour, u_first) if u_first is not None else None
        ),
        wins_today=own_usd < api_usd,
        hybrid=_hybrid(at, api_usd),
        competitive_utilization=replica_cost.competitive_utilization(usage, per_mtok),
        monte_carlo=uncertainty.monte_carlo(at, found.drawn, spec.uncertainty.seed),
        tornado=uncertainty.tornado(at, found.ends),
        flips=uncertainty.flips(at, crossed.windows),
        projection=project(at, path(found, choice, per_mtok), found.drawn),
        efficiency=efficiency(spec.efficiency, traffic.requests_per_month, api_usd, own_usd) if spec.efficiency else None,
        later_prices=later(api_rows(found.question, choice), found.question),
    )


def _utilization_at(curve: Curve, u: float | None, serving: int | None) -> float | None:
    if u is None or not serving:
        return None
    return utilization(curve, u) if curve.rules.autoscale else u / serving


def utilization(curve: Curve, u: float) -> float | None:
    """Return tokens over the planned capacity of the replicas that serve them, spares not counted."""
    serving = float(np.maximum(curve.hourly(u) - curve.rules.redundancy, 0.0).mean())
    return u / serving if serving and u > 0 else None


def _hybrid(at: Position, api_usd: float) -> Hybrid:
    rules = at.curve.rules
    return optimum(
        at.curve.weights,
        at.tokens / at.replica_tokens,
        at.replica_usd,
        at.fixed_usd,
        api_usd,
        redundancy=rules.redundancy,
        max_replicas=rules.max_replicas,
    )


def _first_interval(found: Business, at: Position, first: float | None) -> Interval | None:
    """Solve again with capacity at the ends of its interval; an end where it never happens is left open (None)."""
    if first is None:
        return None
    ends = []
    for tokens in (found.capacity.tokens.high, found.capacity.tokens.low):
        again = crossings.solve(found.curve, at.replica_usd, tokens, at.fixed_usd, at.api_usd_per_token) if tokens else None
        ends.append(again.first_tokens if again else None)
    return Interval(value=first, low=ends[0], high=ends[1])
