"""The verdict in words: sentence, recommendation, warnings, and every input with its badge. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from tokenhour.breakeven.inputs import idle_savings
from tokenhour.breakeven.inputs.extras import quoted_api, wider_inputs
from tokenhour.breakeven.inputs.problem import Question
from tokenhour.breakeven.solve import assumptions as given
from tokenhour.contracts.records.verdict import Assumption, Comparison, RunVerdict, TrafficToday
from tokenhour.contracts.units import human_count

Recommendation = Literal["stay", "hybrid", "self-host", "depends", "none"]
QUALITY_WARNING = (
    "Quality parity is assumed, not measured: {models} may answer worse than the APIs it is compared with. "
    "Compare answers on your own task before you act on a price."
)
SLO_WARNING = "The APIs promise no latency objective; the self-hosted figures hold at the stated one."
HYBRID_GAIN = 0.01
"""A mixture is recommended when it is cheaper than either side by at least this share."""


def best_run(runs: Sequence[RunVerdict]) -> RunVerdict | None:
    """Return the run with the cheapest tokens at planned load."""
    priced = [run for run in runs if run.output_usd_per_mtok is not None]
    return min(priced, key=lambda run: run.output_usd_per_mtok or 0.0, default=None)


def mixes(c: Comparison) -> bool:
    """Tell whether base replicas with overflow to this API are clearly cheaper than either alone."""
    either = min(c.api_usd_per_month, c.self_host_usd_per_month)
    mixed = c.hybrid.base_replicas > 0 and c.hybrid.overflow_share > 0
    return mixed and c.hybrid.usd_per_month < (1 - HYBRID_GAIN) * either


def recommendation(runs: Sequence[RunVerdict]) -> Recommendation:
    """Say in a word what the best run's comparisons come to."""
    best = best_run(runs)
    if best is None:
        return "none"
    if all(mixes(c) for c in best.comparisons):
        return "hybrid"
    wins = [c.wins_today for c in best.comparisons]
    return "self-host" if all(wins) else "depends" if any(wins) or any(map(mixes, best.comparisons)) else "stay"


def sentence(runs: Sequence[RunVerdict], traffic: TrafficToday) -> str:
    """Say the verdict in a sentence or two, in words that a decision-maker uses."""
    best = best_run(runs)
    if best is None:
        return "No tested rate met the latency objective with any precision: there is no capacity to put a price on."
    volume, apis = human_count(traffic.tokens_per_month), best.comparisons
    row = best.instance
    machine = f"{row.cloud} {row.instance}" if row else best.machine.removesuffix(", owned")
    run = best.run if best.origin is None or best.origin.badge != "assumed" else f"{best.run} (assumed capacity)"
    winning, mixed = [c for c in apis if c.wins_today], [c for c in apis if mixes(c)]
    at = f"at {volume} tokens a month"
    if len(mixed) == len(apis):
        head = f"Do both: {at} {_base(mixed)} of {run} on {machine} with overflow to the API beat either alone"
    elif not winning:
        loses = f"beats none of the {len(apis)} APIs" if len(apis) > 1 else f"does not beat {names(apis)}"
        head = f"Stay with the API: {at} self-hosting {run} on {machine} {loses}"
    elif len(winning) == len(apis):
        head = f"Self-host: {at} {run} on {machine} beats {f'all {len(apis)} APIs' if len(apis) > 1 else names(apis)}"
    else:
        losing = names([c for c in apis if not c.wins_today])
        head = f"It depends on the API: {at} {run} on {machine} beats {names(winning)} and loses to {losing}"
    never = [c for c in apis if c.outcome == "never"]
    tail = f". Against {names(never)} it never pays off at any volume" if never else ""
    also = f". Cheaper still: {_base(mixed)} with overflow to {names(mixed)}" if mixed and len(mixed) < len(apis) else ""
    return f"{head}{tail}{also}."


def _base(mixed: Sequence[Comparison]) -> str:
    counts = sorted({c.hybrid.base_replicas for c in mixed})
    said = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{said} base replica{'s' if counts[-1] > 1 else ''}"


def names(comparisons: Sequence[Comparison]) -> str:
    """List APIs as people do: a, b and c."""
    said = [f"{c.price.model} ({c.price.host})" for c in comparisons]
    return ", ".join(said[:-1]) + f" and {said[-1]}" if len(said) > 1 else said[0]


def assumptions(
    question: Question, runs: Sequence[RunVerdict], traffic: TrafficToday, answers: Mapping[str, Any]
) -> Iterator[Assumption]:
    """List every input with its badge, those of the wider questions last."""
    listed = list(_of_runs(question, runs, traffic))
    yield from listed
    yield from wider_inputs(question, answers, {one.name for one in listed})


def _of_runs(question: Question, runs: Sequence[RunVerdict], traffic: TrafficToday) -> Iterator[Assumption]:
    for run in runs:
        yield _capacity(run)
    mix = f"{traffic.prompt_tokens:.0f} input and {traffic.output_tokens:.0f} output tokens a request"
    yield Assumption(name="mix", value=mix, badge=traffic.mix_badge, source=_mix_source(question, traffic))
    volume = human_count(traffic.tokens_per_month)
    yield Assumption(name="tokens a month", value=volume, badge=traffic.volume_badge, source=_volume_source(question))
    peak = f"busiest hour {max(traffic.hourly_weights):.2f} times the mean"
    yield Assumption(
        name="traffic", value=f"{traffic.profile_source}; {peak}", badge=traffic.profile_badge, source="profile"
    )
    yield from _quoted(question, runs[0])
    if best := best_run(runs):
        yield from _measured_power(best)
    for run in runs:
        if run.idle:
            yield Assumption(
                name=f"rest of {run.run}", value=idle_savings.told(run.idle), badge="measured", source=run.idle.source
            )
    yield from given.assumed(question, runs)


def _capacity(run: RunVerdict) -> Assumption:
    name, origin = f"capacity of {run.run}", run.origin
    if origin is None or run.capacity_tokens_per_month is None:
        return Assumption(name=name, value="none", badge="measured", source=f"results/{run.run}/summary.json")
    value = f"{human_count(run.capacity_tokens_per_month)} tokens a month and replica"
    if run.extrapolated:
        return Assumption(
            name=name, value=f"{value}, extrapolated: {'; '.join(run.extrapolated)}", badge="assumed", source=origin.source
        )
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
    spec, row = question.economics, run.instance
    hour = f"${run.replica_usd_per_hour:.4g} an hour"
    if row is not None:
        source = f"{row.source}, checked {row.checked_on}, {row.source_url}"
        yield Assumption(name=f"{row.cloud} {row.instance}, {spec.purchase}", value=hour, badge="quoted", source=source)
    else:
        yield Assumption(name=run.machine, value=hour, badge="assumed", source="economics.owned")
    for c in run.comparisons:
        yield quoted_api(c.price, f"; ${c.blended_usd_per_mtok:.3g} blended")
    for code, rate_spec in spec.rates.items():
        yield Assumption(name=f"one {code}", value=f"${rate_spec.usd:g}", badge="quoted", source=rate_spec.source)


def _measured_power(run: RunVerdict) -> Iterator[Assumption]:
    origin = run.origin
    if origin and origin.power_kw is not None:
        value = f"{origin.power_kw * 1000:.0f} W a replica at the SLO"
        yield Assumption(name=f"power of {run.run}", value=value, badge="measured", source=origin.source)


def warnings(question: Question, runs: Sequence[RunVerdict], checked: Sequence[dt.date]) -> list[str]:
    """Say what a reader must know before trusting a figure."""
    spec, on = question.economics, question.on
    models = sorted({run.origin.model_name for run in runs if run.origin} or {run.run for run in runs})
    said = [QUALITY_WARNING.format(models=", ".join(models)), SLO_WARNING, *question.notes]
    said += [
        f"{run.run}: the capacity is assumed, nobody measured it here ({run.origin.source})"
        for run in runs
        if run.origin and run.origin.badge == "assumed"
    ]
    said += [f"{run.run} is extrapolated: {'; '.join(run.extrapolated)}" for run in runs if run.extrapolated]
    said += [
        f"{run.run}: latency is extrapolated: {'; '.join(run.extrapolated_rates)}" for run in runs if run.extrapolated_rates
    ]
    said += [
        f"{run.run}: {idle_savings.waits(run.idle)}, "
        f"longer than the {run.origin.slo.ttft_s:g} s to the first token of the objective"
        for run in runs
        if run.idle and run.origin and run.origin.slo and idle_savings.too_slow(run.idle, run.origin.slo)
    ]
    oldest = min(checked)
    if (on - oldest).days > spec.recompute_after_days:
        said.append(f"a price was last checked on {oldest}, more than {spec.recompute_after_days} days ago: check it again")
    notes = {note for run in runs for c in run.comparisons if c.projection for note in c.projection.notes}
    said += sorted(f"within {spec.horizon_months} months {note}" for note in notes)
    return said
