"""Every input that nobody measured or quoted, and whether the scenario or a default gave it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokenhour.breakeven.inputs.problem import Question
from tokenhour.breakeven.model import replica_cost
from tokenhour.contracts.config.economics import EconomicsSpec
from tokenhour.contracts.record import Part
from tokenhour.contracts.records.verdict import Assumption, RunVerdict

FIXED = (
    "ops_usd_per_month",
    "engineering_usd_per_month",
    "storage_usd_per_month",
    "egress_usd_per_month",
    "setup_usd",
    "setup_months",
)
SPREADS = ("gpu_price", "api_price", "volume", "ops", "growth")
UNCERTAIN = {"uncertainty, P10 to P90": SPREADS, "random draws": ("draws", "seed")}
OWNED = (
    "life_years",
    "interest_rate_per_year",
    "residual_usd",
    "pue",
    "colocation_usd_per_month",
    "maintenance_usd_per_year",
)
SPOT = ("checkpoint_cost_h", "unavailable_share", "fallback_share")


def said(spec: Part, *fields: str) -> str:
    """Tell who gave some fields: the scenario, or which of them the default did."""
    left = [field for field in fields if field not in spec.model_fields_set]
    if not fields or len(left) == len(fields):
        return "default"
    return f"scenario; default: {', '.join(left)}" if left else "scenario"


def assumed(question: Question, runs: Sequence[RunVerdict]) -> Iterator[Assumption]:
    """List what nobody measured or quoted, defaults among it."""
    spec = question.economics
    unc = spec.uncertainty
    rows = {
        "purchase": (f"{spec.purchase}, {spec.cloud if spec.owned is None else spec.owned.name}", ("purchase", "cloud")),
        "headroom": (f"{spec.headroom:.0%} of the capacity at the SLO is planned for", ("headroom",)),
        "fleet": (
            f"{spec.scaling}, at least {spec.min_replicas}, at most {spec.max_replicas} replicas",
            ("scaling", "min_replicas", "max_replicas"),
        ),
        "spare replicas": (str(spec.redundancy), ("redundancy",)),
        "operations": (
            f"${spec.ops_usd_per_month:,.0f} a month and {spec.ops_share:.0%} of the machines",
            ("ops_usd_per_month", "ops_share"),
        ),
        "engineering": (f"${spec.engineering_usd_per_month:,.0f} a month", ("engineering_usd_per_month",)),
        "storage": (f"${spec.storage_usd_per_month:,.0f} a month", ("storage_usd_per_month",)),
        "egress": (f"${spec.egress_usd_per_month:,.0f} a month", ("egress_usd_per_month",)),
        "set-up": (f"${spec.setup_usd:,.0f} over {spec.setup_months} months", ("setup_usd", "setup_months")),
        "fixed cost": (f"${replica_cost.fixed_usd(spec):,.2f} a month in all", FIXED),
        "cached input, cache writes, batch": (
            f"{spec.cached_share:.0%}, {spec.cache_write_share:.0%}, {spec.batch_share:.0%}",
            ("cached_share", "cache_write_share", "batch_share"),
        ),
        "electricity": (f"${spec.electricity_usd_per_kwh:g} a kWh", ("electricity_usd_per_kwh",)),
        "output over input price": (f"{spec.price_ratio:g}, to split a replica's cost", ("price_ratio",)),
        "growth": (f"{spec.growth_per_year:+.0%} a year", ("growth_per_year",)),
        "price drifts": (
            f"API {0 - spec.api_decay_per_year:+.0%}, machine {spec.gpu_drift_per_year:+.0%} a year",
            ("api_decay_per_year", "gpu_drift_per_year"),
        ),
        "cold start": (_cold_start(spec, runs), ("cold_start_s",)),
        "horizon": (f"{spec.horizon_months} months", ("horizon_months",)),
        "age of prices": (
            f"checked again after {spec.recompute_after_days} days, refused after {spec.max_price_age_days}",
            ("recompute_after_days", "max_price_age_days"),
        ),
        "more replicas": ("each serves what the one that was measured served", ()),
        "discount rate": (f"{spec.discount_rate_per_year:.1%} a year", ("discount_rate_per_year",)),
        "uncertainty, P10 to P90": (
            "; ".join(
                f"{name.replace('_', ' ')} x{getattr(unc, name).p10:g}-{getattr(unc, name).p90:g}" for name in SPREADS
            ),
            ("uncertainty",),
        ),
        "random draws": (f"{unc.draws:,}, seed {unc.seed}", ("uncertainty",)),
    }
    for name, (value, fields) in rows.items():
        source = said(unc, *UNCERTAIN[name]) if name in UNCERTAIN else said(spec, *fields)
        yield Assumption(name=name, value=value, badge="assumed", source=source)
    yield from _of_parts(spec)
    run = runs[0]
    if run.instance and run.origin:
        value = f"{run.instance.instance} runs as fast as what was measured ({run.origin.accelerator_name})"
        yield Assumption(name="machine", value=value, badge="assumed", source="scenario")
    for choice in spec.apis:
        if choice.tokens_ratio != 1:
            value = f"{choice.tokens_ratio:g} of its tokens for one of the served model's"
            yield Assumption(name=f"tokenizer of {choice.model}", value=value, badge="assumed", source="scenario")


def _cold_start(spec: EconomicsSpec, runs: Sequence[RunVerdict]) -> str:
    known = next((run.fleet.cold_start_s for run in runs if run.fleet), 0.0)
    return f"{known:.0f} s" + ("" if spec.cold_start_s is not None else ", as measured or assumed with the capacity")


def _of_parts(spec: EconomicsSpec) -> Iterator[Assumption]:
    """List what an owned machine and the spot question take for granted."""
    if owned := spec.owned:
        value = (
            f"{owned.life_years:g} years at {owned.interest_rate_per_year:.1%}, then worth ${owned.residual_usd:,.0f}; "
            f"PUE {owned.pue:g}; room ${owned.colocation_usd_per_month:,.0f} a month, "
            f"upkeep ${owned.maintenance_usd_per_year:,.0f} a year"
        )
        yield Assumption(name="owning it", value=value, badge="assumed", source=said(owned, *OWNED))
    if spot := spec.spot:
        value = (
            f"a checkpoint costs {spot.checkpoint_cost_h:g} h; away {spot.unavailable_share:.0%} of the time, "
            f"on-demand stands in for {spot.fallback_share:.0%}"
        )
        yield Assumption(name="spot", value=value, badge="assumed", source=said(spot, *SPOT))
