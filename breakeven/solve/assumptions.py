"""Every input of a verdict with its badge, and what a reader must know before trusting a figure: words alone. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenhour.breakeven.inputs import idle_savings, names
from tokenhour.breakeven.inputs.extras import quoted_api, wider_inputs
from tokenhour.breakeven.inputs.problem import Note, Question
from tokenhour.breakeven.model import replica_cost
from tokenhour.contracts.config.economics import EconomicsSpec
from tokenhour.contracts.record import Part
from tokenhour.contracts.records.verdict import Assumption, RunVerdict, TrafficToday
from tokenhour.contracts.units import human_count

FIXED = (
    "ops_usd_per_month",
    "engineering_usd_per_month",
    "storage_usd_per_month",
    "egress_usd_per_month",
    "setup_usd",
    "setup_months",
)
SPREADS = ("gpu_price", "api_price", "volume", "ops", "growth")
OWNED = (
    "life_years",
    "interest_rate_per_year",
    "residual_usd",
    "pue",
    "colocation_usd_per_month",
    "maintenance_usd_per_year",
)
SPOT = ("checkpoint_cost_h", "unavailable_share", "fallback_share")
QUALITY_WARNING = (
    "Quality parity is assumed, not measured: {models} may answer worse than the APIs it is compared with. "
    "Compare answers on your own task before you act on a price."
)
OF_RUNS = ("assumed_capacity", "extrapolated", "extrapolated_rate", "slow_wake")
"""The warnings that a run can have, in the order in which they are said."""
SLO_WARNING = "The APIs promise no latency objective; the self-hosted figures hold at the stated one."


def assumptions(
    question: Question,
    runs: Sequence[RunVerdict],
    best: RunVerdict | None,
    traffic: TrafficToday,
    answers: Mapping[str, Any],
) -> tuple[Assumption, ...]:
    """List every input with its badge, those of the wider questions last."""
    listed = [*_of_runs(question, runs, best, traffic), *_stated(question.economics, runs)]
    return (*listed, *wider_inputs(question, answers, {one.name for one in listed}))


def _of_runs(
    question: Question, runs: Sequence[RunVerdict], best: RunVerdict | None, traffic: TrafficToday
) -> Iterator[Assumption]:
    yield from map(_capacity, runs)
    mix = f"{traffic.prompt_tokens:.0f} input and {traffic.output_tokens:.0f} output tokens a request"
    yield Assumption(name=names.MIX, value=mix, badge=traffic.mix_badge, source=_mix_source(question, traffic))
    volume = human_count(traffic.tokens_per_month)
    yield Assumption(name=names.VOLUME, value=volume, badge=traffic.volume_badge, source=_volume_source(question))
    shape = f"{traffic.profile_source}; busiest hour {max(traffic.hourly_weights):.2f} times the mean"
    yield Assumption(name=names.TRAFFIC, value=shape, badge=traffic.profile_badge, source="profile")
    yield from _quoted(question, runs[0])
    if best and best.origin and best.origin.power_kw is not None:
        value = f"{best.origin.power_kw * 1000:.0f} W a replica at the SLO"
        yield Assumption(name=names.power(best.run), value=value, badge="measured", source=best.origin.source)
    for run in runs:
        if run.idle:
            said = idle_savings.told(run.idle)
            yield Assumption(name=names.rest(run.run), value=said, badge="measured", source=run.idle.source)


def _capacity(run: RunVerdict) -> Assumption:
    name, origin = names.capacity(run.run), run.origin
    if origin is None or run.capacity_tokens_per_month is None:
        return Assumption(name=name, value="none", badge="measured", source=f"results/{run.run}/summary.json")
    value = f"{human_count(run.capacity_tokens_per_month)} tokens a month and replica"
    if run.extrapolated:
        value = f"{value}, extrapolated: {'; '.join(run.extrapolated)}"
        return Assumption(name=name, value=value, badge="assumed", source=origin.source)
    return Assumption(name=name, value=value, badge=origin.badge, source=f"{origin.source}, {origin.accelerator_name}")


def _volume_source(question: Question) -> str:
    spec = question.economics
    if spec.tokens_per_month is not None or spec.requests_per_month is not None:
        return "scenario"
    return question.demand.source if question.demand.tokens_per_month is not None else "default"


def _mix_source(question: Question, traffic: TrafficToday) -> str:
    if traffic.mix_badge == "assumed":
        return "scenario"
    return question.demand.source if question.demand.log else "as measured"


def _quoted(question: Question, run: RunVerdict) -> Iterator[Assumption]:
    row, hour = run.instance, f"${run.replica_usd_per_hour:.4g} an hour"
    if row is not None:
        yield Assumption(name=run.machine, value=hour, badge="quoted", source=row.origin)
    else:
        yield Assumption(name=run.machine, value=hour, badge="assumed", source="economics.owned")
    for c in run.comparisons:
        yield quoted_api(c.price, f"; ${c.blended_usd_per_mtok:.3g} blended")
    for code, rate in question.economics.rates.items():
        yield Assumption(name=names.currency(code), value=f"${rate.usd:g}", badge="quoted", source=rate.source)


def given_by(spec: Part, *fields: str) -> str:
    """Tell who gave some fields: the scenario, or which of them the default did."""
    left = [field for field in fields if field not in spec.model_fields_set]
    if not fields or len(left) == len(fields):
        return "default"
    return f"scenario; default: {', '.join(left)}" if left else "scenario"


def _stated(spec: EconomicsSpec, runs: Sequence[RunVerdict]) -> Iterator[Assumption]:
    """List what nobody measured or quoted, defaults among it."""

    def month(usd: float) -> str:
        return f"${usd:,.0f} a month"

    unc = spec.uncertainty
    fleet = f"{spec.scaling}, at least {spec.min_replicas}, at most {spec.max_replicas} replicas"
    ops = f"{month(spec.ops_usd_per_month)} and {spec.ops_share:.0%} of the machines"
    shares = f"{spec.cached_share:.0%}, {spec.cache_write_share:.0%}, {spec.batch_share:.0%}"
    drifts = f"API {0 - spec.api_decay_per_year:+.0%}, machine {spec.gpu_drift_per_year:+.0%} a year"
    age = f"checked again after {spec.recompute_after_days} days, refused after {spec.max_price_age_days}"
    spread = "; ".join(f"{n.replace('_', ' ')} x{getattr(unc, n).p10:g}-{getattr(unc, n).p90:g}" for n in SPREADS)
    bought = f"{spec.purchase}, {spec.cloud if spec.owned is None else spec.owned.name}"
    rows: tuple[tuple[str, str, Part, tuple[str, ...]], ...] = (
        ("purchase", bought, spec, ("purchase", "cloud")),
        (names.HEADROOM, f"{spec.headroom:.0%} of the capacity at the SLO is planned for", spec, ("headroom",)),
        (names.FLEET, fleet, spec, ("scaling", "min_replicas", "max_replicas")),
        (names.SPARES, str(spec.redundancy), spec, ("redundancy",)),
        (names.OPERATIONS, ops, spec, ("ops_usd_per_month", "ops_share")),
        (names.ENGINEERING, month(spec.engineering_usd_per_month), spec, ("engineering_usd_per_month",)),
        (names.STORAGE, month(spec.storage_usd_per_month), spec, ("storage_usd_per_month",)),
        (names.EGRESS, month(spec.egress_usd_per_month), spec, ("egress_usd_per_month",)),
        (names.SETUP, f"${spec.setup_usd:,.0f} over {spec.setup_months} months", spec, ("setup_usd", "setup_months")),
        (names.FIXED, f"${replica_cost.fixed_usd(spec):,.2f} a month in all", spec, FIXED),
        (names.CACHED, shares, spec, ("cached_share", "cache_write_share", "batch_share")),
        (names.ELECTRICITY, f"${spec.electricity_usd_per_kwh:g} a kWh", spec, ("electricity_usd_per_kwh",)),
        (names.RATIO, f"{spec.price_ratio:g}, to split a replica's cost", spec, ("price_ratio",)),
        (names.GROWTH, f"{spec.growth_per_year:+.0%} a year", spec, ("growth_per_year",)),
        (names.DRIFTS, drifts, spec, ("api_decay_per_year", "gpu_drift_per_year")),
        ("cold start", _cold_start(spec, runs), spec, ("cold_start_s",)),
        (names.HORIZON, f"{spec.horizon_months} months", spec, ("horizon_months",)),
        (names.PRICE_AGE, age, spec, ("recompute_after_days", "max_price_age_days")),
        ("more replicas", "each serves what the one that was measured served", spec, ()),
        (names.DISCOUNT, f"{spec.discount_rate_per_year:.1%} a year", spec, ("discount_rate_per_year",)),
        (names.SPREAD, spread, unc, SPREADS),
        (names.DRAWS, f"{unc.draws:,}, seed {unc.seed}", unc, ("draws", "seed")),
    )
    for name, value, part, fields in rows:
        yield Assumption(name=name, value=value, badge="assumed", source=given_by(part, *fields))
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
        yield Assumption(name="owning it", value=value, badge="assumed", source=given_by(owned, *OWNED))
    if spot := spec.spot:
        value = (
            f"a checkpoint costs {spot.checkpoint_cost_h:g} h; away {spot.unavailable_share:.0%} of the time, "
            f"on-demand stands in for {spot.fallback_share:.0%}"
        )
        yield Assumption(name="spot", value=value, badge="assumed", source=given_by(spot, *SPOT))


def warnings(question: Question, runs: Sequence[RunVerdict], checked: Sequence[dt.date]) -> Iterator[Note]:
    """Say what a reader must know before trusting a figure."""
    spec, oldest = question.economics, min(checked)
    models = sorted({run.origin.model_name for run in runs if run.origin} or {run.run for run in runs})
    called = tuple(names.capacity(run.run) for run in runs if run.run in models)
    yield Note("quality_parity", QUALITY_WARNING.format(models=", ".join(models)), called)
    yield Note("api_latency", SLO_WARNING)
    yield from question.notes
    of_runs = (note for run in runs for note in _warnings_of(run))
    yield from sorted(of_runs, key=lambda note: OF_RUNS.index(note.code))
    if (question.on - oldest).days > spec.recompute_after_days:
        said = f"a price was last checked on {oldest}, more than {spec.recompute_after_days} days ago: check it again"
        yield Note("old_price", said, (names.PRICE_AGE,))
    changes = {note for run in runs for c in run.comparisons if c.projection for note in c.projection.notes}
    for change in sorted(changes):
        yield Note("price_change", f"within {spec.horizon_months} months {change}", (names.HORIZON,))


def _warnings_of(run: RunVerdict) -> Iterator[Note]:
    about = (names.capacity(run.run),)
    if run.origin and run.origin.badge == "assumed":
        said = f"{run.run}: the capacity is assumed, nobody measured it here ({run.origin.source})"
        yield Note("assumed_capacity", said, about)
    if run.extrapolated:
        yield Note("extrapolated", f"{run.run} is extrapolated: {'; '.join(run.extrapolated)}", about)
    if run.extrapolated_rates:
        said = f"{run.run}: latency is extrapolated: {'; '.join(run.extrapolated_rates)}"
        yield Note("extrapolated_rate", said, about)
    if run.idle and run.origin and run.origin.slo and idle_savings.too_slow(run.idle, run.origin.slo):
        longer = f"longer than the {run.origin.slo.ttft_s:g} s to the first token of the objective"
        yield Note("slow_wake", f"{run.run}: {idle_savings.waits(run.idle)}, {longer}", about)
