"""How machines are bought: interruptible ones, and reservations over several clouds. Pure."""

from __future__ import annotations

import numpy as np

from tokenhour.breakeven.extras import commitments as reserve
from tokenhour.breakeven.extras import spot
from tokenhour.breakeven.inputs.problem import Question
from tokenhour.breakeven.model.replica_curve import Curve, Floats, Rules
from tokenhour.breakeven.prices.tables import hourly_usd
from tokenhour.breakeven.solve.run_context import Business
from tokenhour.contracts.config.economics_extras import CommitmentOption, SpotSpec
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.verdict_extras import CommitmentPlan, Reservation, SpotPlan
from tokenhour.contracts.units import HOURS_PER_MONTH

NO_LIMIT = 1_000_000


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
    row = question.machine(said.instance, said.cloud, said.region)
    per = said.replicas_per_instance or row.accelerators / main.plant.accelerators
    quoted = said.reserved_usd_per_hour
    if quoted is None and getattr(row, said.term) is not None:
        quoted = hourly_usd(row, said.term, rates)
    reserved = quoted / per if quoted is not None else None
    hourly = hourly_usd(row, "on_demand", rates) / per if row.on_demand is not None else None
    name = f"{said.cloud} {said.instance}"
    return reserve.Option(name, reserved, hourly, said.max_reserved or NO_LIMIT, said.max_on_demand or NO_LIMIT, per)
