"""The verdict line by line: each step's formula, the numbers in it, its result, and the inputs that it uses. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tokenhour.breakeven.inputs import names
from tokenhour.breakeven.report import derivation_extras
from tokenhour.breakeven.report.derivation_step import Step
from tokenhour.breakeven.report.number_format import count, percent, usd, usd3
from tokenhour.contracts.config.economics import EconomicsSpec
from tokenhour.contracts.records.verdict import CapacityOrigin, Comparison, CostLines, RunVerdict, TrafficToday, Verdict
from tokenhour.contracts.units import HOURS_PER_MONTH


def steps(verdict: Verdict, best: RunVerdict, c: Comparison) -> list[Step]:
    """Derive the best run's figures beside one API."""
    spec, traffic, bill, origin = verdict.economics, verdict.traffic, best.cost_today, best.origin
    if spec is None or traffic is None or bill is None or origin is None:
        return []
    return [
        _capacity(best, origin, spec, traffic),
        *_machine(best, spec, bill),
        *_month(verdict, best, c, traffic, bill),
        *_crossing(best, c, spec),
        *_tokens(best, c),
        *_further(c),
        *derivation_extras.of_comparison(best, c),
        *derivation_extras.of_scenario(verdict),
    ]


def _capacity(best: RunVerdict, origin: CapacityOrigin, spec: EconomicsSpec, traffic: TrafficToday) -> Step:
    into, out = origin.input_tokens_per_hour.value, origin.output_tokens_per_hour.value
    numbers = (
        f"({count(into)} input + {count(out)} output) tokens an accelerator-hour \u00d7 {origin.accelerators} "
        f"\u00d7 {spec.headroom:g} \u00d7 {HOURS_PER_MONTH:.0f} h"
    )
    if (traffic.prompt_tokens, traffic.output_tokens) != (origin.prompt_tokens, origin.output_tokens):
        numbers += (
            f", at {traffic.prompt_tokens:.0f}:{traffic.output_tokens:.0f} instead of {origin.prompt_tokens:.0f}:"
            f"{origin.output_tokens:.0f} tokens by the same work (an input token counts 1/{spec.price_ratio:g})"
        )
    value = f"{count(best.capacity_tokens_per_month)} tokens a month"
    uses = (names.capacity(best.run), names.HEADROOM, names.MIX)
    return Step(
        "capacity", "Capacity of a replica, C", "tokens at the SLO \u00d7 headroom \u00d7 hours", numbers, value, uses
    )


def _machine(best: RunVerdict, spec: EconomicsSpec, bill: CostLines) -> Iterator[Step]:
    replica = best.replica_usd_per_hour * HOURS_PER_MONTH * (1 + spec.ops_share)
    yield Step(
        "replica",
        "A replica's month, G",
        "price of an hour \u00d7 hours \u00d7 (1 + operations' share)",
        f"{usd3(best.replica_usd_per_hour)} \u00d7 {HOURS_PER_MONTH:.0f} h \u00d7 {1 + spec.ops_share:g}",
        usd(replica),
        (best.machine, names.OPERATIONS),
    )
    if best.output_usd_per_mtok is not None:
        yield Step(
            "planned",
            "Tokens at planned load",
            "price of a second / (input tokens a second / r + output tokens a second)",
            f"{usd3(best.replica_usd_per_hour)} an hour, C a month, r {spec.price_ratio:g}",
            f"{usd3(best.output_usd_per_mtok)} per M output, {usd3(best.input_usd_per_mtok)} input",
            (best.machine, names.HEADROOM, names.RATIO),
            ("capacity",),
        )
    rest = (spec.ops_usd_per_month, bill.engineering, bill.storage, bill.egress, bill.setup)
    yield Step(
        "fixed",
        "Whatever the volume, F",
        "operations + engineering + storage + egress + set-up/months",
        " + ".join(map(usd, rest)),
        usd(sum(rest)),
        (names.OPERATIONS, names.ENGINEERING, names.STORAGE, names.EGRESS, names.SETUP),
    )


def _month(verdict: Verdict, best: RunVerdict, c: Comparison, traffic: TrafficToday, bill: CostLines) -> Iterator[Step]:
    volume = count(verdict.tokens_per_month)
    tokens = f"{traffic.prompt_tokens:.4g} in, {traffic.output_tokens:.4g} out"
    price = f"{c.price.input} in, {c.price.output} out per M tokens ({c.price.currency})"
    yield Step(
        "price",
        f"{c.price.title}, p",
        "price of a mean request / its tokens",
        f"{tokens} at {price}, cached {percent(traffic.cached_share)}, batch {percent(traffic.batch_share)}",
        f"{usd3(c.blended_usd_per_mtok)} per M tokens",
        (c.price.name, names.MIX, names.CACHED),
    )
    yield Step(
        "api",
        "A month by API",
        "p \u00d7 V",
        f"{usd3(c.blended_usd_per_mtok)} per M \u00d7 {volume}",
        usd(c.api_usd_per_month),
        (names.VOLUME, c.price.name),
    )
    if best.fleet:
        peak, fleet = best.fleet.peak_to_mean, best.fleet
        load = verdict.tokens_per_month / (best.capacity_tokens_per_month or 1.0)
        mean = math.fsum(fleet.hourly_replicas_today) / max(1, len(fleet.hourly_replicas_today))
        yield Step(
            "replicas",
            "Replicas today",
            "\u2308V/C \u00d7 peak over mean\u2309 + spare, hour by hour where the fleet follows demand",
            f"{load:.4g} \u00d7 {peak:.3g} + {fleet.redundancy}, at least {fleet.min_replicas} ({fleet.scaling})",
            f"{mean:.3g} on average, {max(fleet.hourly_replicas_today, default=0)} at most",
            (names.TRAFFIC, names.FLEET, names.SPARES, names.VOLUME),
        )
    lines = (
        bill.gpu_busy,
        bill.gpu_idle,
        bill.redundancy,
        bill.ops,
        bill.engineering,
        bill.storage,
        bill.egress,
        bill.setup,
    )
    yield Step(
        "own",
        "A month of one's own",
        "busy + idle + spare + operations + engineering + storage + egress + set-up",
        " + ".join(map(usd, lines)),
        usd(bill.total),
        (names.FIXED, names.SPARES),
        ("replica", "replicas", "fixed"),
    )
    saving = c.api_usd_per_month - c.self_host_usd_per_month
    numbers = f"{usd(c.api_usd_per_month)} \u2212 {usd(c.self_host_usd_per_month)}"
    yield Step("saving", "Difference", "by API \u2212 of one's own", numbers, usd(saving), after=("api", "own"))


def _crossing(best: RunVerdict, c: Comparison, spec: EconomicsSpec) -> Iterator[Step]:
    capacity = best.capacity_tokens_per_month or 0.0
    peak = best.fleet.peak_to_mean if best.fleet else 1.0
    replica = best.replica_usd_per_hour * HOURS_PER_MONTH * (1 + spec.ops_share)
    worth = c.blended_usd_per_mtok * capacity / peak / 1e6
    formula = "where F + G n(V) first falls below p V; n\u2081 = \u230a(F + G r)/(p C \u2212 G)\u230b + 1 for a fixed fleet"
    never = f"p C {usd(worth)} \u2264 G {usd(replica)}: a full replica costs more"
    numbers = (
        never if c.outcome == "never" else f"p C {usd(worth)}, G {usd(replica)}, {c.replicas_at_breakeven or 0} replicas"
    )
    first = "never" if c.outcome == "never" else count(c.first_tokens_per_month)
    yield Step("first", "First break-even", formula, numbers, first, after=("capacity", "replica", "fixed", "price"))
    stable = "never" if c.outcome == "never" else count(c.stable_tokens_per_month)
    windows = ", ".join(f"above {count(w.above)}" + (f" to {count(w.to)}" if w.to else "") for w in c.windows[:4])
    more = f", \u2026 ({len(c.windows)} in all)" if len(c.windows) > 4 else ""
    every = "from where every step of the staircase wins"
    yield Step("stable", "For good", every, f"{windows or 'no window'}{more}", stable, after=("first",))
    yield Step(
        "utilization",
        "Utilization at break-even",
        "first break-even / (C \u00d7 replicas that serve it)",
        f"{count(c.first_tokens_per_month)} / ({count(capacity)} \u00d7 {c.replicas_at_breakeven or 0})",
        percent(c.utilization_at_breakeven),
        after=("first", "capacity"),
    )


def _tokens(best: RunVerdict, c: Comparison) -> Iterator[Step]:
    yield Step(
        "usage",
        "Usage cost",
        "busy time alone, over the tokens",
        "what a token would cost if machines were never idle",
        f"{usd3(best.usage_usd_per_mtok)} per M",
        after=("capacity", "replica"),
    )
    yield Step(
        "allocation",
        "Allocation cost",
        "the whole bill over the tokens of today",
        f"output {usd3(best.allocation_output_usd_per_mtok)}, input {usd3(best.allocation_input_usd_per_mtok)}",
        f"{usd3(best.allocation_usd_per_mtok)} per M",
        (names.RATIO,),
        ("own",),
    )
    yield Step(
        "competitive",
        "Competitive utilization",
        "usage cost / API price",
        f"{usd3(best.usage_usd_per_mtok)} / {usd3(c.blended_usd_per_mtok)}",
        percent(c.competitive_utilization),
        after=("usage", "price"),
    )


def _further(c: Comparison) -> Iterator[Step]:
    h = c.hybrid
    yield Step(
        "hybrid",
        "Cheapest mixture",
        "min over k of F + G (k + r) + p \u03a3 max(0, D \u2212 k C), against the API alone",
        f"{h.base_replicas} replicas of one's own, {percent(h.overflow_share)} of the tokens by API",
        usd(h.usd_per_month),
        (names.TRAFFIC, names.VOLUME),
        ("capacity", "replica", "fixed", "price"),
    )
    if c.monte_carlo:
        yield Step(
            "certainty",
            "How sure",
            "share of draws in which self-hosting is cheaper at today's volume",
            f"{c.monte_carlo.draws:,} draws, seed {c.monte_carlo.seed}, two-piece log-normal around each input",
            percent(c.monte_carlo.win_probability),
            (names.SPREAD,),
            ("saving",),
        )
    if c.projection:
        month = c.projection.payback_month
        yield Step(
            "payback",
            "Payback",
            "first month whose cumulative discounted saving covers set-up and capital",
            f"{len(c.projection.months)} months, present value {usd(c.projection.npv_usd)}",
            f"month {month}" if month else "none",
            (names.SETUP, names.GROWTH, names.DRIFTS, names.DISCOUNT, names.HORIZON),
            ("saving",),
        )
