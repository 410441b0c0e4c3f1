"""From summaries, prices and the economics section to the verdict. Pure but for the date, which is handed in."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence

from breakeven import cost
from breakeven.crossings import Crossings, Staircase, hybrid, solve
from breakeven.prices import Mix, Tables, api_price, blended_usd_per_mtok, hourly_usd, instance_price
from contracts.economics_spec import ApiChoice, EconomicsSpec
from contracts.experiment import Experiment
from contracts.price import InstancePrice
from contracts.record import Interval
from contracts.run import Summary
from contracts.units import HOURS_PER_MONTH, TOKENS_PER_MTOK, human_count
from contracts.verdict import Assumption, Comparison, Hybrid, RunVerdict, Verdict, Window

PRICE_RATIO = 4.0
QUALITY_WARNING = (
    "Quality parity is assumed, not measured: {models} may answer worse than the APIs it is compared with. "
    "Compare answers on your own task before you act on a price."
)
SLO_WARNING = "The APIs promise no latency objective; the self-hosted figures hold at the stated one."


def verdict(
    experiment: Experiment,
    summaries: Sequence[Summary],
    tables: Tables,
    on: dt.date,
    *,
    inputs: Mapping[str, str],
    created_utc: str,
    allowed_invalid: bool,
) -> Verdict:
    """Solve every run against every API."""
    spec = experiment.economics
    row = instance_price(tables, spec.hardware, spec.cloud, spec.region, on)
    runs = tuple(run_verdict(spec, summary, row, tables, on) for summary in summaries)
    checked = [row.checked_on, *(c.price.checked_on for run in runs for c in run.comparisons)]
    return Verdict(
        experiment=experiment.name,
        on_date=on,
        sentence=sentence(spec, runs),
        tokens_per_month=spec.tokens_per_month,
        price_ratio=PRICE_RATIO,
        runs=runs,
        assumptions=tuple(assumptions(spec, summaries, runs)),
        warnings=tuple(warnings(spec, summaries, checked, on)),
        allowed_invalid=allowed_invalid,
        recompute_by=min(checked) + dt.timedelta(days=spec.max_price_age_days),
        inputs=dict(inputs),
        created_utc=created_utc,
    )


def run_verdict(spec: EconomicsSpec, summary: Summary, row: InstancePrice, tables: Tables, on: dt.date) -> RunVerdict:
    """Price one run and compare it with each API."""
    usd_per_hour = cost.replica_usd_per_hour(hourly_usd(row, spec.purchase), row, summary)
    found = cost.capacity(summary, spec.headroom)
    common = {
        "run": summary.run,
        "scheme": summary.scheme,
        "validity": summary.validity,
        "instance": row,
        "replica_usd_per_hour": usd_per_hour,
    }
    if found is None:
        return RunVerdict(
            **common,
            capacity_tokens_per_month=None,
            capacity_interval=None,
            input_share=_measured_input_share(summary),
            input_usd_per_mtok=None,
            output_usd_per_mtok=None,
            allocation_usd_per_mtok=None,
            usage_usd_per_mtok=None,
            replicas_today=None,
            utilization_today=None,
            cost_today=None,
            comparisons=(),
        )
    stairs = cost.staircase(spec, usd_per_hour, found.tokens.value)
    bill = cost.lines(spec, stairs)
    replicas = stairs.replicas(spec.tokens_per_month)
    in_usd, out_usd = cost.token_cost(usd_per_hour, found.output_tps, found.input_tps, PRICE_RATIO)
    mtok = spec.tokens_per_month / TOKENS_PER_MTOK
    return RunVerdict(
        **common,
        capacity_tokens_per_month=found.tokens.value,
        capacity_interval=found.tokens,
        input_share=found.input_share,
        input_usd_per_mtok=in_usd,
        output_usd_per_mtok=out_usd,
        allocation_usd_per_mtok=bill.total / mtok,
        usage_usd_per_mtok=bill.gpu_busy / mtok,
        replicas_today=replicas,
        utilization_today=spec.tokens_per_month / (replicas * found.tokens.value),
        cost_today=bill,
        comparisons=tuple(compare(spec, summary, found, stairs, choice, tables, on) for choice in spec.apis),
    )


def _measured_input_share(summary: Summary) -> float:
    total = summary.mean_prompt_tokens + summary.mean_output_tokens
    return summary.mean_prompt_tokens / total if total else 0.0


def compare(
    spec: EconomicsSpec,
    summary: Summary,
    found: cost.Capacity,
    stairs: Staircase,
    choice: ApiChoice,
    tables: Tables,
    on: dt.date,
) -> Comparison:
    """Find the crossings of one run with one API."""
    price = api_price(tables, choice.model, choice.host, on)
    mix = Mix(summary.mean_prompt_tokens, summary.mean_output_tokens, spec.cached_share, spec.batch_share)
    per_mtok = blended_usd_per_mtok(price, mix) * choice.tokens_ratio
    per_token = per_mtok / TOKENS_PER_MTOK
    crossed = solve(stairs, per_token, spec.max_replicas)
    today = spec.tokens_per_month
    base, overflow, hybrid_usd = hybrid(stairs, per_token, today, spec.max_replicas)
    replicas = stairs.replicas(crossed.first_tokens) if crossed.first_tokens else None
    if replicas and crossed.first_tokens == replicas * stairs.replica_tokens:
        replicas += 1  # a window begins just above the step
    return Comparison(
        price=price,
        blended_usd_per_mtok=per_mtok,
        api_usd_per_month=per_token * today,
        self_host_usd_per_month=stairs.cost_usd(today),
        windows=tuple(Window(above=a, to=b) for a, b in crossed.windows),
        first_tokens_per_month=crossed.first_tokens,
        first_interval=_first_interval(spec, found, stairs, per_token, crossed),
        stable_tokens_per_month=crossed.stable_tokens,
        outcome=crossed.outcome,
        replicas_at_breakeven=replicas,
        utilization_at_breakeven=(
            crossed.first_tokens / (replicas * stairs.replica_tokens) if crossed.first_tokens and replicas else None
        ),
        wins_today=stairs.cost_usd(today) < per_token * today,
        hybrid=Hybrid(base_replicas=base, overflow_share=overflow / today, usd_per_month=hybrid_usd),
    )


def _first_interval(
    spec: EconomicsSpec, found: cost.Capacity, stairs: Staircase, per_token: float, crossed: Crossings
) -> Interval | None:
    """Solve again with capacity at the ends of its interval; an end where it never happens is left open (None)."""
    if crossed.first_tokens is None:
        return None
    usd_per_hour = stairs.replica_usd / HOURS_PER_MONTH
    ends = []
    for tokens in (found.tokens.high, found.tokens.low):
        again = solve(cost.staircase(spec, usd_per_hour, tokens), per_token, spec.max_replicas) if tokens else None
        ends.append(again.first_tokens if again else None)
    return Interval(value=crossed.first_tokens, low=ends[0], high=ends[1])


def best_run(runs: Sequence[RunVerdict]) -> RunVerdict | None:
    """Return the run with the cheapest tokens at planned load."""
    priced = [run for run in runs if run.output_usd_per_mtok is not None]
    return min(priced, key=lambda run: run.output_usd_per_mtok or math.inf, default=None)


def sentence(spec: EconomicsSpec, runs: Sequence[RunVerdict]) -> str:
    """Say the verdict in a sentence or two, in words that a decision-maker uses."""
    best = best_run(runs)
    if best is None:
        return "No tested rate met the latency objective with any precision: there is no capacity to put a price on."
    volume = human_count(spec.tokens_per_month)
    machine = f"{best.instance.cloud} {best.instance.instance}"
    winning = [c for c in best.comparisons if c.wins_today]
    never = [c for c in best.comparisons if c.outcome == "never"]
    head = {
        0: f"Stay with the API: at {volume} tokens a month self-hosting {best.run} on {machine} beats none of the "
        f"{len(best.comparisons)} APIs",
        len(best.comparisons): f"Self-host: at {volume} tokens a month {best.run} on {machine} beats all "
        f"{len(best.comparisons)} APIs",
    }.get(
        len(winning),
        f"It depends on the API: at {volume} tokens a month {best.run} on {machine} beats {_names(winning)} and loses to "
        f"{_names([c for c in best.comparisons if not c.wins_today])}",
    )
    tail = f". Against {_names(never)} it never pays off at any volume" if never else ""
    return f"{head}{tail}."


def _names(comparisons: Sequence[Comparison]) -> str:
    names = [f"{c.price.model} ({c.price.host})" for c in comparisons]
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]


def assumptions(spec: EconomicsSpec, summaries: Sequence[Summary], runs: Sequence[RunVerdict]) -> list[Assumption]:
    """List every input with its badge."""
    measured = [
        Assumption(
            name=f"capacity of {s.run}",
            value=f"{human_count(run.capacity_tokens_per_month)} tokens a month"
            if run.capacity_tokens_per_month
            else "none",
            badge="measured",
            source=f"results/{s.run}/summary.json, {s.accelerator.name}",
        )
        for s, run in zip(summaries, runs, strict=True)
    ]
    first = summaries[0]
    mix = Assumption(
        name="mix",
        value=f"{first.mean_prompt_tokens:.0f} input and {first.mean_output_tokens:.0f} output tokens a request",
        badge="measured",
        source=f"workload {first.workload.name}",
    )
    row = runs[0].instance
    quoted = [
        Assumption(
            name=f"{row.cloud} {row.instance}, {spec.purchase}",
            value=f"${runs[0].replica_usd_per_hour:.4g} an hour",
            badge="quoted",
            source=f"{row.source}, checked {row.checked_on}, {row.source_url}",
        ),
        *(
            Assumption(
                name=f"{c.price.model} at {c.price.host}",
                value=f"${c.price.input} in, ${c.price.output} out per M tokens; ${c.blended_usd_per_mtok:.3g} blended",
                badge="quoted",
                source=f"{c.price.source}, checked {c.price.checked_on}, {c.price.source_url}",
            )
            for run in runs[:1]
            for c in run.comparisons
        ),
    ]
    said = {
        "tokens a month": human_count(spec.tokens_per_month),
        "headroom": f"{spec.headroom:.0%} of the capacity at the SLO is planned for",
        "traffic": "flat over the month",
        "spare replicas": str(spec.redundancy),
        "fixed cost": f"${cost.fixed_usd(spec):.2f} a month (ops, engineering, storage, egress, setup)",
        "cached input, batch": f"{spec.cached_share:.0%}, {spec.batch_share:.0%}",
        "machine": f"{row.instance} runs as fast as the machine that was measured ({first.accelerator.name})",
        "output over input price": f"{PRICE_RATIO:g}, to split a replica's cost",
    }
    assumed = [Assumption(name=k, value=v, badge="assumed", source="economics section or default") for k, v in said.items()]
    return [*measured, mix, *quoted, *assumed]


def warnings(spec: EconomicsSpec, summaries: Sequence[Summary], checked: Sequence[dt.date], on: dt.date) -> list[str]:
    """Say what a reader must know before trusting a figure."""
    said = [QUALITY_WARNING.format(models=", ".join(sorted({s.model_name for s in summaries}))), SLO_WARNING]
    said += [f"{s.run} is INVALID: {'; '.join(r.rule for r in s.reasons)}" for s in summaries if s.validity == "INVALID"]
    said += [f"{s.run} failed its quality gate" for s in summaries if s.quality_gate == "FAIL"]
    said += [f"{s.run}: {warning}" for s in summaries for warning in s.warnings if "SLO" in warning]
    said += [f"{s.run} is synthetic: {', '.join(s.synthetic)}" for s in summaries if s.synthetic]
    if (on - min(checked)).days > spec.max_price_age_days:
        said.append(
            f"a price was last checked on {min(checked)}, more than {spec.max_price_age_days} days ago: check it again"
        )
    return said
