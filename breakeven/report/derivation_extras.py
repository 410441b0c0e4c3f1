"""The derivation's lines beyond the crossings: what turns the verdict, value, energy, and the wider questions. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tokenhour.breakeven.inputs import names
from tokenhour.breakeven.report.derivation_step import Step
from tokenhour.breakeven.report.number_format import percent, usd, usd3
from tokenhour.breakeven.report.table import INPUT_NAMES
from tokenhour.contracts.records.verdict import Comparison, RunVerdict, Verdict
from tokenhour.contracts.units import TOKENS_PER_MTOK


def of_comparison(best: RunVerdict, c: Comparison) -> Iterator[Step]:
    """Yield how the turning points, the value and the electricity follow."""
    if c.flips:
        near = c.flips[0]
        yield Step(
            "flips",
            "What would turn it",
            "the multiple of one input, alone, at which by API \u2212 of one's own is zero",
            f"nearest: {INPUT_NAMES[near.name]}, to {near.value:,.4g} {near.unit}",
            f"\u00d7{near.multiple:.3g}",
            (c.price.name, best.machine, names.capacity(best.run), names.VOLUME, names.FIXED),
            ("saving",),
        )
    if e := c.efficiency:
        ratio = "\u2013" if e.self_host_ratio is None else f"{e.self_host_ratio:.3g}\u00d7"
        yield Step(
            "efficiency",
            "Value for money",
            "value / spend",
            f"{e.units_per_month:,.4g} {e.unit}s, {usd(e.value_usd_per_month)} / {usd(c.self_host_usd_per_month)}",
            f"{ratio} of one's own",
            (names.VALUE, names.VOLUME),
            ("own", "api"),
        )
    joule = best.origin.energy_j_per_output_token if best.origin else None
    if best.energy_usd_per_mtok_output is not None and joule is not None:
        yield Step(
            "energy",
            "Electricity",
            "joule of an output token / 3.6 MJ a kWh \u00d7 price",
            f"{joule:.4g} J \u00d7 {TOKENS_PER_MTOK:,.0f} / 3,600,000",
            f"{usd3(best.energy_usd_per_mtok_output)} per M output tokens",
            (names.capacity(best.run), names.ELECTRICITY),
        )


def of_scenario(verdict: Verdict) -> Iterator[Step]:
    """Yield how the answers to the wider questions follow."""
    yield from _portfolio(verdict)
    yield from _levers(verdict)
    yield from _machines(verdict)
    if training := verdict.training:
        when = f"month {training.crossover_month}" if training.crossover_month else "not within 120 months"
        yield Step(
            "training",
            "Training against inference",
            "first month m with N c [(1+g)^m \u2212 1]/g > T + retrains",
            "the first month's requests N at c each, growing by g a month; T the training at first",
            when,
            (names.TRAINING,),
        )


def _portfolio(verdict: Verdict) -> Iterator[Step]:
    if found := verdict.portfolio:
        yield Step(
            "portfolio",
            "Which feature belongs where",
            "min over placements of F + G n(summed demand of one's own features) + \u03a3 API of the others",
            f"{found.replicas} shared replicas {usd(found.self_host_usd_per_month)} + API {usd(found.api_usd_per_month)}",
            usd(found.total_usd_per_month),
            tuple(names.feature(p.name) for p in found.placements),
            ("capacity", "replica", "fixed"),
        )


def _levers(verdict: Verdict) -> Iterator[Step]:
    if plan := verdict.levers:
        lines = [x for x in plan.lines if x.weight and x.high]
        terms = [f"{percent(x.weight)} \u00d7 {percent(x.low)} to {percent(x.high)} ({x.line})" for x in lines]
        yield Step(
            "levers",
            "Levers together",
            "1 \u2212 \u03a3 w \u220f (1 \u2212 s) over the cost lines",
            " + ".join(terms) or "no lever has a figure",
            f"{percent(plan.low)} to {percent(plan.high)} of {usd(plan.bill_usd_per_month)}",
            tuple(names.lever(f.lever, f.line) for f in plan.figures),
            ("own",),
        )


def _machines(verdict: Verdict) -> Iterator[Step]:
    if spot := verdict.spot:
        cost = "no work gets done" if spot.price_ratio is None else f"{spot.price_ratio:.3g}\u00d7"
        yield Step(
            "spot",
            "Interruptible machines",
            "batch: (1 \u2212 d)/(1 \u2212 o), o = \u03bb(\u03c4/2 + R) + \u03b4/\u03c4; "
            "serving: \u2308n/(1 \u2212 u)\u2309 spot replicas and the fallback's share on demand",
            f"d {percent(spot.discount)}, o {percent(spot.overhead)}; n {spot.on_demand_replicas}, "
            f"spot {spot.serving_replicas}",
            f"batch {cost}, serving {1 - spot.serving_saved_share:.3g}\u00d7 of on-demand",
            (names.SPOT,),
            ("replicas",),
        )
    if plan := verdict.commitments:
        reserved = ", ".join(f"{r.reserved_replicas} at {r.cloud}" for r in plan.reservations)
        yield Step(
            "commitments",
            "How much to reserve",
            "min over reserved counts of \u03a3 reserved price + \u03a3 mean overflow \u00d7 price by the hour",
            f"reserve {reserved}; demand {plan.demand_mean_replicas:.1f} replicas on average",
            f"{usd(plan.usd_per_month)} a month",
            tuple(names.reservation(r.cloud, r.instance, r.term) for r in plan.reservations),
            ("replicas",),
        )
