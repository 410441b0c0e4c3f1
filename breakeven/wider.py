"""The wider questions of a scenario, each answered on the best run and only when it is asked. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from breakeven import commitments as reserve
from breakeven import cost, levers, spot
from breakeven.demand import FLAT, around_one
from breakeven.fleet import Curve, Floats, Rules
from breakeven.origin import capacity
from breakeven.portfolio import Costs, Feature, Placed, place
from breakeven.prices import Mix, blended_usd_per_mtok, hourly_usd, instance_price
from breakeven.question import Question
from breakeven.training import crossover
from contracts.answer import (
    CommitmentPlan,
    LeverFigure,
    LeverPlan,
    Placement,
    Portfolio,
    Reservation,
    SpotPlan,
    TrainingCrossover,
)
from contracts.bench_spec import SloSpec
from contracts.economics_spec import EconomicsSpec
from contracts.errors import InputError
from contracts.question_spec import CommitmentOption, FeatureSpec, LeverSpec, SpotSpec
from contracts.units import HOURS_PER_MONTH, TOKENS_PER_MTOK
from contracts.verdict import RunVerdict

if TYPE_CHECKING:
    from breakeven.solve import Business

WEEK = 168
NO_LIMIT = 1_000_000


def answers(question: Question, main: Business, runs: Sequence[RunVerdict], best: RunVerdict) -> dict[str, Any]:
    """Answer what is asked, as fields of the verdict."""
    spec = question.economics
    return {
        "portfolio": portfolio(question, main) if spec.portfolio else None,
        "levers": lever_plan(question, main, runs, best) if spec.levers else None,
        "spot": spot_plan(main, spec.spot) if spec.spot else None,
        "commitments": commitment_plan(main) if spec.commitments else None,
    }


def training(spec: EconomicsSpec) -> TrainingCrossover | None:
    """Answer the training question; it needs no measurement."""
    return crossover(spec.training) if spec.training else None


def portfolio(question: Question, main: Business) -> Portfolio:
    """Place every feature of the portfolio."""
    spec = question.economics
    features = [_feature(question, main, one) for one in spec.portfolio]
    replica = cost.replica_usd_per_month(spec, main.replica.usd_per_hour)
    costs = Costs(cost.fixed_usd(spec), replica, spec.redundancy)
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
        model, host = _api_of(question, spec)
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


def _api_of(question: Question, spec: FeatureSpec) -> tuple[str, str]:
    first = question.economics.apis[0]
    return (spec.model, spec.host) if spec.model and spec.host else (first.model, first.host)


def _feature(question: Question, main: Business, spec: FeatureSpec) -> Feature:
    economics, origin = question.economics, main.plant.origin
    if origin is None:
        raise AssertionError
    row = question.api(*_api_of(question, spec))
    ratio = next((c.tokens_ratio for c in economics.apis if (c.model, c.host) == (row.model, row.host)), 1.0)
    mix = Mix(spec.prompt_tokens, spec.output_tokens, spec.cached_share, spec.batch_share)
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


def lever_plan(question: Question, main: Business, runs: Sequence[RunVerdict], best: RunVerdict) -> LeverPlan:
    """Compound the levers on the best run's bill."""
    if best.cost_today is None:
        raise AssertionError
    figures, left_out = [], []
    for spec in question.economics.levers:
        found = _lever(question, main, runs, spec)
        if found is None:
            left_out.append(f"{spec.lever}: nothing measured or quoted it here, and no range is given")
        else:
            figures.append(found)
    lines = levers.by_line(figures, levers.weights(best.cost_today))
    low, high = levers.whole(lines)
    return LeverPlan(
        run=best.run,
        figures=tuple(figures),
        lines=lines,
        low=low,
        high=high,
        bill_usd_per_month=best.cost_today.total,
        left_out=tuple(left_out),
    )


def _lever(question: Question, main: Business, runs: Sequence[RunVerdict], spec: LeverSpec) -> LeverFigure | None:
    """Return the measured (or quoted) figure of a lever, else the range that is given."""
    known = _known_lever(question, main, runs, spec)
    if known is not None:
        low, high, badge, source = known
        return LeverFigure(lever=spec.lever, line=spec.line, low=low, high=high, badge=badge, source=source)
    if spec.low is None or spec.high is None:
        return None
    return LeverFigure(
        lever=spec.lever, line=spec.line, low=spec.low, high=spec.high, badge="assumed", source=spec.source or "scenario"
    )


def _known_lever(question: Question, main: Business, runs: Sequence[RunVerdict], spec: LeverSpec) -> Any:
    if spec.line != "gpu":
        return None
    match spec.lever:
        case "quantization":
            return _quantization(runs)
        case "autoscaling":
            return _autoscaling(main)
        case "caching":
            return _caching(main)
        case "spot" | "commitments":
            return _bought_cheaper(main, question, spec.lever)
        case _:
            return None


def _quantization(runs: Sequence[RunVerdict]) -> tuple[float, float, str, str] | None:
    """Return what the best quantized run saves a token against the original; at most nothing when it is slower."""
    plain = next((r for r in runs if r.scheme == "none" and r.capacity_interval), None)
    other = [r for r in runs if r.scheme != "none" and r.capacity_interval and r.origin and r.origin.badge == "measured"]
    if plain is None or plain.capacity_interval is None or not other:
        return None
    best = max(other, key=lambda r: r.capacity_tokens_per_month or 0.0)
    a, b = plain.capacity_interval, best.capacity_interval
    if b is None:
        return None
    low = 1 - (a.high or a.value) / (b.low or b.value)
    high = 1 - (a.low or a.value) / (b.high or b.value)
    return max(0.0, low), max(0.0, high), "measured", f"{best.run} against {plain.run}, ends of their 95 % intervals"


def _autoscaling(main: Business) -> tuple[float, float, str, str] | None:
    """Return what following the profile saves against a fleet for its peak, with the measured cold start."""
    rules, curve = main.curve.rules, main.curve
    if len(curve.weights) == 1 or main.u <= 0:
        return None
    u = np.array([main.u])
    fixed = Rules(rules.redundancy, rules.min_replicas, rules.max_replicas)
    follow = Rules(rules.redundancy, rules.min_replicas, rules.max_replicas, True, rules.cold_start_s)
    saved = 1 - float(Curve(follow, curve.weights).replica_months(u)[0] / Curve(fixed, curve.weights).replica_months(u)[0])
    if rules.autoscale:
        return None
    known = main.question.demand.badge == "measured" and main.plant.origin and main.plant.origin.badge == "measured"
    source = f"computed on {main.question.demand.source}, cold start {rules.cold_start_s:.0f} s"
    return saved, saved, "measured" if known else "assumed", source


def _caching(main: Business) -> tuple[float, float, str, str] | None:
    """Return the share of work that the measured prefix-cache hits take away: hits x input's share of the work."""
    origin, spec = main.plant.origin, main.question.economics
    if origin is None or not origin.prefix_hit_rate:
        return None
    into = main.traffic.prompt_tokens / spec.price_ratio
    saved = origin.prefix_hit_rate * into / (into + main.traffic.output_tokens)
    return saved, saved, "measured", f"prefix-cache hit rate {origin.prefix_hit_rate:.0%} of {origin.source}"


def _bought_cheaper(main: Business, question: Question, lever: str) -> tuple[float, float, str, str] | None:
    row, spec = main.row, question.economics
    if row is None or row.on_demand is None or not row.on_demand or spec.purchase != "on_demand":
        return None
    prices = [row.spot] if lever == "spot" else [row.reserved_1y, row.reserved_3y]
    found = sorted(1 - float(p / row.on_demand) for p in prices if p is not None)
    if not found:
        return None
    if lever == "spot" and spec.spot:
        saved = spot_plan(main, spec.spot).serving_saved_share
        found = [max(0.0, saved)]
    return found[0], found[-1], "quoted", f"{row.source}, checked {row.checked_on}"


def spot_plan(main: Business, spec: SpotSpec) -> SpotPlan:
    """Say whether interruptible machines pay, for batch work and for serving."""
    discount, source = _discount(main, spec)
    lost = spot.overhead(spec.interruptions_per_hour, spec.checkpoint_interval_h, spec.restart_h, spec.checkpoint_cost_h)
    interval = spot.best_interval_h(spec.interruptions_per_hour, spec.checkpoint_cost_h)
    ratio = spot.price_ratio(discount, lost)
    n = int(main.curve.hourly(main.u).max())
    saved = spot.serving_saved_share(n, spec.unavailable_share, discount, spec.fallback_share)
    month = n * _on_demand_usd(main) * HOURS_PER_MONTH
    return SpotPlan(
        discount=discount,
        discount_source=source,
        overhead=lost,
        best_interval_h=interval,
        best_overhead=(
            spot.overhead(spec.interruptions_per_hour, interval, spec.restart_h, spec.checkpoint_cost_h)
            if interval
            else None
        ),
        price_ratio=ratio,
        batch_viable=ratio is not None and ratio < 1,
        serving_replicas=spot.serving_replicas(n, spec.unavailable_share),
        on_demand_replicas=n,
        serving_usd_per_month=month * (1 - saved),
        on_demand_usd_per_month=month,
        serving_saved_share=saved,
        serving_viable=saved > 0,
        note="a published serving system measured 43 % saved, where 60-90 % are advertised; the discount is today's",
    )


def _on_demand_usd(main: Business) -> float:
    """Return the on-demand hour of a replica, whatever option the scenario buys."""
    row = main.row
    if row is None or row.on_demand is None:
        return main.replica.usd_per_hour
    hour = hourly_usd(row, "on_demand", main.question.economics.rates)
    return hour * main.plant.accelerators / row.accelerators


def _discount(main: Business, spec: SpotSpec) -> tuple[float, str]:
    row = main.row
    if spec.discount is not None:
        return spec.discount, "scenario"
    if row is None or row.spot is None or not row.on_demand:
        raise InputError(
            "neither the scenario nor the instance's row has a spot price",
            where="economics.spot.discount",
            remedy="give the discount off the on-demand price, such as 0.6",
        )
    return 1 - float(row.spot / row.on_demand), f"{row.source}, checked {row.checked_on}"


def commitment_plan(main: Business) -> CommitmentPlan | None:
    """Split the fleet between reserved and hourly machines over the clouds that the scenario names."""
    question, spec = main.question, main.question.economics.commitments
    if spec is None:
        return None
    demand: Floats = np.asarray(spec.replicas) if spec.replicas is not None else main.curve.hourly(main.u)
    if spec.replicas is None and not main.curve.rules.autoscale:
        rules = Rules(question.economics.redundancy, question.economics.min_replicas, autoscale=True)
        demand = Curve(rules, main.curve.weights).hourly(main.u)
    options = [_option(question, main, o) for o in spec.options]
    plan = reserve.cheapest(options, demand)
    found = []
    for option, said, count, mean in zip(options, spec.options, plan.reserved, plan.on_demand_mean, strict=True):
        hour = count * (option.reserved_usd or 0.0) + mean * (option.on_demand_usd or 0.0)
        found.append(
            Reservation(
                instance=said.instance,
                cloud=said.cloud,
                term=said.term,
                replicas_per_instance=option.per_instance,
                reserved_replicas=count,
                on_demand_replicas_mean=mean,
                reserved_usd_per_hour=option.reserved_usd,
                on_demand_usd_per_hour=option.on_demand_usd,
                usd_per_month=hour * HOURS_PER_MONTH,
            )
        )
    alone = plan.all_on_demand_usd_per_hour
    return CommitmentPlan(
        reservations=tuple(found),
        usd_per_month=plan.usd_per_hour * HOURS_PER_MONTH,
        all_on_demand_usd_per_month=alone * HOURS_PER_MONTH if alone is not None else None,
        saved_share=1 - plan.usd_per_hour / alone if alone else None,
        break_even_utilization=tuple(
            o.reserved_usd / o.on_demand_usd if o.reserved_usd is not None and o.on_demand_usd else 1.0 for o in options
        ),
        demand_mean_replicas=float(demand.mean()),
        demand_peak_replicas=float(demand.max()),
    )


def _option(question: Question, main: Business, said: CommitmentOption) -> reserve.Option:
    rates = question.economics.rates
    row = instance_price(question.tables, said.instance, said.cloud, said.region, question.on)
    per = said.replicas_per_instance or row.accelerators / main.plant.accelerators
    quoted = said.reserved_usd_per_hour
    if quoted is None and getattr(row, said.term) is not None:
        quoted = hourly_usd(row, said.term, rates)
    reserved = quoted / per if quoted is not None else None
    hourly = hourly_usd(row, "on_demand", rates) / per if row.on_demand is not None else None
    name = f"{said.cloud} {said.instance}"
    return reserve.Option(name, reserved, hourly, said.max_reserved or NO_LIMIT, said.max_on_demand or NO_LIMIT, per)
