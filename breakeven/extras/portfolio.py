"""A scenario's portfolio: its features priced and placed. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tokenhour.breakeven.extras.portfolio_search import Costs, Feature, Placed, place
from tokenhour.breakeven.inputs.capacity import capacity
from tokenhour.breakeven.inputs.demand import FLAT, around_one
from tokenhour.breakeven.inputs.problem import Question
from tokenhour.breakeven.model import replica_cost
from tokenhour.breakeven.prices.tables import TokenMix, blended_usd_per_mtok
from tokenhour.breakeven.solve.run_context import Business
from tokenhour.contracts.config.bench import SloSpec
from tokenhour.contracts.config.economics_extras import FeatureSpec
from tokenhour.contracts.records.verdict_extras import Placement, Portfolio
from tokenhour.contracts.units import TOKENS_PER_MTOK

WEEK = 168


def portfolio(question: Question, main: Business) -> Portfolio:
    """Place every feature of the portfolio."""
    spec = question.economics
    features = [_feature(question, main, one) for one in spec.portfolio]
    replica = replica_cost.replica_usd_per_month(spec, main.replica.usd_per_hour)
    costs = Costs(replica_cost.fixed_usd(spec), replica, spec.redundancy)
    placed = place(features, costs)
    everything = sum(f.api_usd for f in features)
    movable = [f for f in features if not f.stays_because]
    whole = None
    if len(movable) == len(features):
        peak = math.ceil(np.sum([f.demand for f in features], axis=0).max() - 1e-9)
        whole = float(costs.own(np.array([max(1, peak)]))[0])
    load = sum(float(f.demand.mean()) for f, moved in zip(features, placed.moved, strict=True) if moved)
    return Portfolio(
        run=main.plant.run,
        placements=tuple(_placements(question, features, placed)),
        replicas=placed.replicas,
        utilization=load / (placed.replicas - spec.redundancy) if placed.replicas else None,
        self_host_usd_per_month=placed.own_usd,
        api_usd_per_month=placed.api_usd,
        total_usd_per_month=placed.total_usd,
        all_api_usd_per_month=everything,
        all_self_host_usd_per_month=whole,
        exact=placed.exact,
        lower_bound_usd_per_month=placed.lower_bound_usd,
    )


def _placements(question: Question, features: Sequence[Feature], placed: Placed) -> list[Placement]:
    found = []
    for spec, feature, moved in zip(question.economics.portfolio, features, placed.moved, strict=True):
        why = "its API costs more than the replicas it fills" if moved else "its API costs less than the replicas it fills"
        model, host = question.api_of(spec)
        found.append(
            Placement(
                name=spec.name,
                side="self-host" if moved else "api",
                api=f"{model} at {host}",
                api_usd_per_month=feature.api_usd,
                replicas=float(feature.demand.mean()),
                reason=feature.stays_because or why,
            )
        )
    return found


def _feature(question: Question, main: Business, spec: FeatureSpec) -> Feature:
    economics, origin = question.economics, main.plant.origin
    if origin is None:
        raise AssertionError
    row = question.api(*question.api_of(spec))
    ratio = next((c.tokens_ratio for c in economics.apis if (c.model, c.host) == (row.model, row.host)), 1.0)
    mix = TokenMix(spec.prompt_tokens, spec.output_tokens, spec.cached_share, spec.batch_share)
    tokens = spec.requests_per_month * (spec.prompt_tokens + spec.output_tokens)
    api_usd = blended_usd_per_mtok(row, mix, ratio, economics.rates) * tokens / TOKENS_PER_MTOK
    able = capacity(origin, economics, spec.prompt_tokens, spec.output_tokens).tokens.value
    hours = around_one(spec.hours or FLAT, f"economics.portfolio: {spec.name}: hours")
    shape = np.tile(np.asarray(hours), WEEK // len(hours))
    stays = "" if spec.self_hostable else "the served model does not meet its quality bar"
    if spec.slo and not satisfies(origin.slo, spec.slo):
        stays = "it needs a stricter latency objective than was measured"
    return Feature(spec.name, api_usd, tokens / able * shape, stays)


def satisfies(measured: SloSpec | None, wanted: SloSpec) -> bool:
    """Tell whether what was measured implies what is wanted: each bound at least as tight, at no lower percentile."""
    if measured is None or measured.percentile < wanted.percentile:
        return False
    pairs = [(getattr(measured, name), getattr(wanted, name)) for name in ("ttft_s", "tpot_s", "e2e_s")]
    return all(limit is None or (had is not None and had <= limit) for had, limit in pairs)
