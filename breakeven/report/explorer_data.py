"""What the page's explorer computes with: a verdict's own inputs, and where the sliders begin and end. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from tokenhour.breakeven.model.projection import month_date
from tokenhour.breakeven.prices.tables import hourly_usd, in_force, usd_per_unit
from tokenhour.breakeven.solve.recommendation import machine_name
from tokenhour.contracts.config.economics import ApiChoice, CurrencyRate, EconomicsSpec
from tokenhour.contracts.config.prices import ApiPrice, ContextTier, InstancePrice
from tokenhour.contracts.records.verdict import Comparison, RunVerdict, TrafficToday, Verdict

OPTIONS = ("on_demand", "spot", "reserved_1y", "reserved_3y")
CLASSES = ("input", "output", "cache_read", "cache_write")
MOST_STEPS = 400_000
"""More steps of the staircase than this (hours x replicas) take a browser too long."""


def build(verdict: Verdict, best: RunVerdict | None) -> dict[str, Any] | None:
    """Return the explorer's data; None where there is nothing to explore (`why_not` says it)."""
    if why_not(verdict, best) or best is None or verdict.economics is None or verdict.traffic is None:
        return None
    spec, traffic = verdict.economics, verdict.traffic
    dates = [month_date(verdict.on_date, t) for t in range(spec.horizon_months)]
    machine = _machine(spec, best, dates)
    return {
        "price_ratio": spec.price_ratio,
        "ops_share": spec.ops_share,
        "storage_usd": spec.storage_usd_per_month,
        "egress_usd": spec.egress_usd_per_month,
        "setup_usd": spec.setup_usd,
        "setup_months": spec.setup_months,
        "growth_per_year": spec.growth_per_year,
        "gpu_drift_per_year": spec.gpu_drift_per_year,
        "discount_rate_per_year": spec.discount_rate_per_year,
        "horizon_months": spec.horizon_months,
        "cache_write_share": spec.cache_write_share,
        "batch_share": spec.batch_share,
        "classes": [[k.share, k.prompt_tokens, k.output_tokens] for k in spec.request_classes],
        "weights": list(traffic.hourly_weights),
        "machine": machine,
        "runs": [_run(run) for run in verdict.runs if run.capacity_tokens_per_month is not None and run.origin],
        "apis": [_api(c, choice, spec, dates) for c, choice in zip(best.comparisons, spec.apis, strict=True)],
        "state": _state(spec, traffic, machine),
        "measured_tokens": best.capacity_tokens_per_month,
    }


def why_not(verdict: Verdict, best: RunVerdict | None) -> str:
    """Say why there is no explorer; empty when there is one."""
    if best is None:
        return "no run has a capacity at the objective"
    if verdict.economics is None or verdict.traffic is None or best.fleet is None:
        return "this verdict is of version 1, which does not keep all inputs: solve it again"
    steps = len(verdict.traffic.hourly_weights) * best.fleet.max_replicas
    if best.fleet.scaling == "autoscale" and steps > MOST_STEPS:
        return f"a fleet that follows {len(verdict.traffic.hourly_weights)} hours has too many steps for a browser"
    return ""


def _run(run: RunVerdict) -> dict[str, Any]:
    origin, fleet = run.origin, run.fleet
    if origin is None or fleet is None:
        raise AssertionError
    cash = run.replica_usd_per_hour if run.cash_usd_per_hour is None else run.cash_usd_per_hour
    return {
        "run": run.run,
        "scheme": run.scheme,
        "badge": origin.badge,
        "accelerators": origin.accelerators,
        "input_per_hour": origin.input_tokens_per_hour.value,
        "output_per_hour": origin.output_tokens_per_hour.value,
        "prompt": origin.prompt_tokens,
        "output": origin.output_tokens,
        "owned": None
        if run.instance
        else {
            "usd_per_hour": run.replica_usd_per_hour,
            "cash_share": cash / run.replica_usd_per_hour if run.replica_usd_per_hour else 1.0,
            "capital_usd": run.capital_usd,
        },
        "rules": {
            "redundancy": fleet.redundancy,
            "min_replicas": fleet.min_replicas,
            "max_replicas": fleet.max_replicas,
            "autoscale": fleet.scaling == "autoscale",
            "cold_start_s": fleet.cold_start_s,
        },
    }


def _machine(spec: EconomicsSpec, best: RunVerdict, dates: Sequence[dt.date]) -> dict[str, Any]:
    """Return the machine's prices by purchase option, and each option's path over the horizon as multiples of today's."""
    row = best.instance
    if row is None:
        count = spec.owned.accelerators if spec.owned else 1
        hour = best.replica_usd_per_hour * count / (best.origin.accelerators if best.origin else 1)
        return {"name": machine_name(best, spec), "accelerators": count, "prices": {"owned": hour}, "paths": {}}
    options = [name for name in OPTIONS if getattr(row, name) is not None]
    return {
        "name": row.name,
        "accelerators": row.accelerators,
        "prices": {name: hourly_usd(row, name, spec.rates) for name in options},
        "paths": {name: _path(row, best.later_instances, name, spec.rates, dates) for name in options},
    }


def _path(
    row: InstancePrice,
    later: Sequence[InstancePrice],
    option: str,
    rates: Mapping[str, CurrencyRate],
    dates: Sequence[dt.date],
) -> list[float]:
    now = hourly_usd(row, option, rates)
    rows = [in_force((row, *later), date) or row for date in dates] if later and now else []
    return [hourly_usd(r, option, rates) / now if getattr(r, option) is not None else 1.0 for r in rows]


def _api(c: Comparison, choice: ApiChoice, spec: EconomicsSpec, dates: Sequence[dt.date]) -> dict[str, Any]:
    rows = (c.price, *c.later_prices)
    where = f"price of {c.price.name}"
    return {
        "model": c.price.model,
        "host": c.price.host,
        "rate": usd_per_unit(c.price.currency, spec.rates, where),
        "tokens_ratio": choice.tokens_ratio,
        "cached_share": choice.cached_share,
        "batch_share": choice.batch_share,
        "rows": [_row(row) for row in rows],
        "path": [rows.index(row) for row in price_path(rows, dates)],
    }


def price_path(rows: Sequence[ApiPrice], dates: Sequence[dt.date]) -> list[ApiPrice]:
    """Return the row of each month; the last price is held once a model can no longer be called, as in the projection."""
    last = rows[0]
    found = []
    for date in dates:
        row = in_force(rows, date)
        if row is not None and not (row.deprecated_on and row.deprecated_on <= date):
            last = row
        found.append(last)
    return found


def _row(row: ApiPrice) -> dict[str, Any]:
    return {
        "price": _prices(row),
        "tiers": [{"above": tier.above_input_tokens, **_prices(tier)} for tier in row.context_tiers],
        "batch": {name: None if (f := getattr(row.batch, name)) is None else float(f) for name in CLASSES},
    }


def _prices(row: ApiPrice | ContextTier) -> dict[str, float | None]:
    return {name: None if (p := getattr(row, name)) is None else float(p) for name in CLASSES}


def _state(spec: EconomicsSpec, traffic: TrafficToday, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return where the sliders stand at first: at the verdict."""
    return {
        "tokens": traffic.tokens_per_month,
        "prompt": traffic.prompt_tokens,
        "output": traffic.output_tokens,
        "cached": traffic.cached_share,
        "gpu_usd_per_hour": machine["prices"][spec.purchase],
        "purchase": spec.purchase,
        "headroom": spec.headroom,
        "ops_usd": spec.ops_usd_per_month,
        "engineering_usd": spec.engineering_usd_per_month,
        "api_multiple": 1.0,
        "api_decay": spec.api_decay_per_year,
    }
