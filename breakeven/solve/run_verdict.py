"""One run priced and compared with every API. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tokenhour.breakeven.inputs.capacity import below
from tokenhour.breakeven.inputs.problem import Question
from tokenhour.breakeven.model import owned_machine, replica_cost
from tokenhour.breakeven.model.plant import Plant
from tokenhour.breakeven.model.replica_curve import Curve
from tokenhour.breakeven.solve.price_path import instance_rows, later
from tokenhour.breakeven.solve.run_context import Business, replica_of
from tokenhour.breakeven.solve.run_vs_api import compare, utilization
from tokenhour.contracts.config.prices import ApiPrice, InstancePrice
from tokenhour.contracts.records.verdict import Fleet, RunVerdict
from tokenhour.contracts.units import HOURS_PER_MONTH, TOKENS_PER_MTOK


def run_verdict(
    question: Question,
    plant: Plant,
    row: InstancePrice | None,
    found: Business | None,
    prices: Mapping[tuple[str, str], ApiPrice],
) -> RunVerdict:
    """Price one run and compare it with each API."""
    spec = question.economics
    replica = found.replica if found else replica_of(question, plant, row)
    name = row.name if row else (spec.owned.name if spec.owned else "")
    common: dict[str, Any] = {
        "run": plant.run,
        "scheme": plant.scheme,
        "validity": plant.validity,
        "quality_gate": plant.quality_gate,
        "instance": row,
        "replica_usd_per_hour": replica.usd_per_hour,
        "machine": f"{name}, {spec.purchase}",
        "origin": plant.origin,
        "later_instances": later(instance_rows(question, row), question) if row else (),
        "capital_usd": replica.capital_usd,
        "cash_usd_per_hour": replica.cash_usd_per_hour,
        "idle": plant.idle,
    }
    if found is None:
        nothing = dict.fromkeys(NO_CAPACITY)
        share = plant.prompt_tokens / (plant.prompt_tokens + plant.output_tokens or 1.0)
        return RunVerdict(**common, **nothing, input_share=share, comparisons=())
    comparisons = tuple(compare(found, choice, prices[choice.model, choice.host]) for choice in spec.apis)
    return RunVerdict(**common, **_figures(found), comparisons=comparisons)


NO_CAPACITY = (
    "capacity_tokens_per_month",
    "capacity_interval",
    "input_usd_per_mtok",
    "output_usd_per_mtok",
    "allocation_usd_per_mtok",
    "usage_usd_per_mtok",
    "replicas_today",
    "utilization_today",
    "cost_today",
)


def _figures(found: Business) -> dict[str, Any]:
    """Return the figures of a run that do not depend on an API."""
    spec, traffic, hourly = found.question.economics, found.traffic, found.replica.usd_per_hour
    bill = replica_cost.lines(spec, found.curve, hourly, found.u)
    mtok = traffic.tokens_per_month / TOKENS_PER_MTOK
    into = found.capacity.input_share
    weighted = mtok * (into / spec.price_ratio + 1 - into)
    in_usd, out_usd = replica_cost.token_cost(hourly, found.capacity.output_tps, found.capacity.input_tps, spec.price_ratio)
    energy = found.plant.origin.energy_j_per_output_token if found.plant.origin else None
    return {
        "capacity_tokens_per_month": found.capacity.tokens.value,
        "capacity_interval": found.capacity.tokens,
        "input_share": into,
        "input_usd_per_mtok": in_usd,
        "output_usd_per_mtok": out_usd,
        "allocation_usd_per_mtok": bill.total / mtok if mtok else None,
        "allocation_output_usd_per_mtok": bill.total / weighted if mtok else None,
        "allocation_input_usd_per_mtok": bill.total / weighted / spec.price_ratio if mtok else None,
        "usage_usd_per_mtok": bill.gpu_busy / mtok if mtok else None,
        "replicas_today": math.ceil(found.u * found.curve.peak),
        "utilization_today": utilization(found.curve, found.u),
        "cost_today": bill,
        "extrapolated": found.capacity.extrapolated,
        **_rates(found),
        "fleet": _fleet(found.curve, found.u),
        "energy_usd_per_mtok_output": (
            owned_machine.energy_usd_per_mtok(energy, spec.electricity_usd_per_kwh) if energy is not None else None
        ),
    }


def _rates(found: Business) -> dict[str, Any]:
    """Return what a replica is asked for at planned load and in today's busiest hour, and what of it was never tested."""
    origin, planned = found.plant.origin, found.capacity.planned_rps
    if origin is None or planned is None:
        return {}
    serving = float(found.curve.hourly(found.u).max()) - found.curve.rules.redundancy
    busiest = planned * found.u * found.curve.peak / serving if serving > 0 else None
    said = tuple(below(origin, planned, busiest))
    return {"planned_rps": planned, "busiest_rps": busiest, "extrapolated_rates": said}


def _fleet(curve: Curve, u: float) -> Fleet:
    rules, hours = curve.rules, curve.hourly(u)
    return Fleet(
        scaling="autoscale" if rules.autoscale else "fixed",
        peak_to_mean=curve.peak,
        redundancy=rules.redundancy,
        min_replicas=rules.min_replicas,
        max_replicas=rules.max_replicas,
        cold_start_s=rules.cold_start_s,
        hourly_replicas_today=tuple(int(n) for n in hours),
        scale_ups_per_month=curve.starts(u) * HOURS_PER_MONTH / len(curve.weights) if rules.autoscale else 0.0,
    )
