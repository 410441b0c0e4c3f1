"""What the wider questions stand on, as inputs with badges: features, levers, spot, reservations, training, value. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tokenhour.breakeven.inputs import names
from tokenhour.breakeven.inputs.problem import Question
from tokenhour.breakeven.prices.tables import instance_price
from tokenhour.contracts.config.economics_extras import CommitmentOption, FeatureSpec, SpotSpec, TrainingSpec
from tokenhour.contracts.config.prices import ApiPrice
from tokenhour.contracts.records.verdict import Assumption
from tokenhour.contracts.records.verdict_extras import LeverPlan, SpotPlan
from tokenhour.contracts.units import human_count


def wider_inputs(question: Question, answers: Mapping[str, Any], known: Collection[str]) -> Iterator[Assumption]:
    """List the inputs that only the wider questions have; `known` are the names that are listed already."""
    spec = question.economics
    yield from _portfolio(question, known)
    yield from _levers(answers.get("levers"))
    if spec.spot:
        yield _spot(spec.spot, answers.get("spot"))
    for option in spec.commitments.options if spec.commitments else ():
        if names.reservation(option.cloud, option.instance, option.term) not in known:
            yield _reservation(question, option)
    if spec.training:
        yield Assumption(name=names.TRAINING, value=_training(spec.training), badge="assumed", source="scenario")
    if spec.efficiency:
        e = spec.efficiency
        said = f"${e.value_usd_per_unit:g} a {e.unit}, {e.units_per_request:g} of them a request"
        yield Assumption(name=names.VALUE, value=said, badge="assumed", source="scenario")


def quoted_api(price: ApiPrice, more: str = "") -> Assumption:
    """Return an API's price row as an input."""
    return Assumption(
        name=price.name,
        value=f"{price.input} in, {price.output} out per M tokens ({price.currency}){more}",
        badge="quoted",
        source=price.origin,
    )


def _portfolio(question: Question, known: Collection[str]) -> Iterator[Assumption]:
    spec, listed = question.economics, set(known)
    for one in spec.portfolio:
        model, host = question.api_of(one)
        yield Assumption(name=names.feature(one.name), value=_feature(one, model, host), badge="assumed", source="scenario")
        if f"{model} at {host}" not in listed:
            listed.add(f"{model} at {host}")
            yield quoted_api(question.api(model, host))


def _feature(one: FeatureSpec, model: str, host: str) -> str:
    into, out = human_count(one.prompt_tokens), human_count(one.output_tokens)
    said = [
        f"{human_count(one.requests_per_month)} requests a month of {into} input and {out} output tokens",
        f"else {model} at {host}",
    ]
    said += [f"cached {one.cached_share:.0%}"] if one.cached_share else []
    said += [f"batch {one.batch_share:.0%}"] if one.batch_share else []
    said += ["with its own hours"] if one.hours else []
    if one.slo:
        bounds = {"TTFT": one.slo.ttft_s, "TPOT": one.slo.tpot_s, "whole request": one.slo.e2e_s}
        said += [f"p{one.slo.percentile:g} " + ", ".join(f"{k} {v:g} s" for k, v in bounds.items() if v)]
    return "; ".join(said)


def _levers(plan: LeverPlan | None) -> Iterator[Assumption]:
    for f in plan.figures if plan else ():
        span = f"{f.low:.1%}" if f.low == f.high else f"{f.low:.1%} to {f.high:.1%}"
        yield Assumption(name=names.lever(f.lever, f.line), value=f"saves {span} of it", badge=f.badge, source=f.source)


def _spot(spec: SpotSpec, plan: SpotPlan | None) -> Assumption:
    value = (
        f"{spec.interruptions_per_hour:g} interruptions an hour, a checkpoint each {spec.checkpoint_interval_h:g} h that "
        f"costs {spec.checkpoint_cost_h:g} h, {spec.restart_h:g} h to restart; serving: away {spec.unavailable_share:.0%} "
        f"of the time, on-demand stands in for {spec.fallback_share:.0%}"
    )
    off = f"; {plan.discount:.1%} off from {plan.discount_source}" if plan else ""
    return Assumption(name=names.SPOT, value=value, badge="assumed", source=f"scenario{off}")


def _reservation(question: Question, option: CommitmentOption) -> Assumption:
    row = instance_price(question.tables, option.instance, option.cloud, option.region, question.on)
    own = option.reserved_usd_per_hour
    reserved = own if own is not None else getattr(row, option.term)
    limits = {"reserved": option.max_reserved, "by the hour": option.max_on_demand}
    said = [
        "no reserved price" if reserved is None else f"{reserved:g} an hour reserved",
        "no price by the hour" if row.on_demand is None else f"{row.on_demand:g} by the hour",
        *(f"at most {most} {kind}" for kind, most in limits.items() if most is not None),
    ]
    return Assumption(
        name=names.reservation(option.cloud, option.instance, option.term),
        value=f"{', '.join(said)} ({row.currency})",
        badge="quoted" if own is None else "assumed",
        source=row.origin if own is None else f"reserved: scenario; by the hour: {row.origin}",
    )


def _training(spec: TrainingSpec) -> str:
    again = f", ${spec.retrain_usd:,.0f} more each {spec.retrain_every_months} months" if spec.retrain_every_months else ""
    return (
        f"${spec.training_usd:,.0f} at first{again}; {human_count(spec.requests_per_month)} requests a month at "
        f"${spec.usd_per_million_requests:g} a million, {spec.growth_per_month:+.1%} a month"
    )
