"""The verdict's further answers as plain tables, alike on a terminal, in Markdown and in HTML; none unasked."""

from __future__ import annotations

from collections.abc import Iterator

from tokenhour.breakeven.inputs import idle_savings, names
from tokenhour.breakeven.report.number_format import NOTHING, cents, multiple, share, sure
from tokenhour.breakeven.report.table import INPUT_NAMES, Section
from tokenhour.breakeven.report.tables_extras import of_scenario
from tokenhour.contracts.records.verdict import Comparison, IdleMeasured, Quantiles, RunVerdict, Verdict
from tokenhour.contracts.units import human_count

__all__ = ["Section", "named", "sections"]


def sections(verdict: Verdict) -> list[Section]:
    """Return every section that the verdict has something for."""
    best = verdict.best
    made = [*(_of_run(best) if best else ()), *_idle_section(verdict), *_energy(verdict), *of_scenario(verdict)]
    return [section for section in made if section.rows]


def named(verdict: Verdict, name: str) -> Section | None:
    """Return one section by its name."""
    return next((section for section in sections(verdict) if section.name == name), None)


def _of_run(best: RunVerdict) -> Iterator[Section]:
    capacity = names.capacity(best.run)
    sure = [c for c in best.comparisons if c.monte_carlo]
    spread = names.SPREAD
    yield Section(
        "certainty",
        "How sure it is",
        f"{best.run} beside each API. Break-even and saving: 10th, 50th, 90th percentile over all uncertain inputs at once.",
        ("API", "wins today with", "first break-even P10 / P50 / P90", "saving a month P10 / P50 / P90", "payback"),
        tuple(_sure(c) for c in sure),
        tuple((c.price.name, capacity, spread, names.SETUP, names.GROWTH, names.DRIFTS, names.DISCOUNT) for c in sure),
        "certainty",
    )
    turned = [c for c in best.comparisons if c.flips]
    yield Section(
        "flips",
        "What would turn it",
        "How far one input must move, alone, to turn today's verdict; nearest first.",
        ("API", "today", "first", "second", "third"),
        tuple(_flips(c) for c in turned),
        tuple((c.price.name, capacity, best.machine, names.VOLUME, names.FIXED) for c in turned),
        "flips",
    )
    mixed = [c for c in best.comparisons if c.hybrid.own_usd_per_month is not None]
    yield Section(
        "hybrid",
        "Own base, API for the rest",
        "The cheapest number of replicas of one's own at today's volume, hour by hour, with overflow to the API.",
        ("API", "base replicas", "overflow", "own a month", "API a month", "together"),
        tuple(_hybrid(c) for c in mixed),
        tuple((c.price.name, capacity, best.machine, names.VOLUME, names.TRAFFIC, names.FIXED) for c in mixed),
        "hybrid",
    )
    worth = [c for c in best.comparisons if c.efficiency]
    yield Section(
        "efficiency",
        "Value for money",
        "Value over spend at today's volume.",
        ("API", "unit", "value a month", "API: value/spend", "own: value/spend", "API a unit", "own a unit"),
        tuple(_efficiency(c) for c in worth),
        tuple((names.VALUE, names.VOLUME, c.price.name, capacity, best.machine, names.FIXED) for c in worth),
        "efficiency",
    )


def _idle_section(verdict: Verdict) -> Iterator[Section]:
    rest = [(r.run, r.idle) for r in verdict.runs if r.idle]
    yield Section(
        "idle",
        "Rest when idle",
        "Measured by the idle front while it served: what resting can save of the machine's cost, and what a wake costs a "
        "request.",
        ("run", "policy", "observed", "asleep", "a wake", "saves of the machine", "origin", "source"),
        tuple(_idle(run, found) for run, found in rest),
        tuple((names.rest(run),) for run, _ in rest),
    )


def _energy(verdict: Verdict) -> Iterator[Section]:
    runs = [
        (run, cents(run.energy_usd_per_mtok_output)) for run in verdict.runs if run.energy_usd_per_mtok_output is not None
    ]
    if runs and verdict.economics is not None:
        yield Section(
            "energy",
            "Electricity",
            f"Measured over the same window as the tokens, at ${verdict.economics.electricity_usd_per_kwh:g} a kWh.",
            ("run", "USD per M output tokens"),
            tuple((run.run, cost) for run, cost in runs),
            tuple((names.capacity(run.run), names.power(run.run), names.ELECTRICITY) for run, _ in runs),
            "energy",
        )


def _sure(c: Comparison) -> tuple[str, ...]:
    mc, path = c.monte_carlo, c.projection
    if mc is None:
        raise AssertionError
    payback = "none within the horizon"
    if path and path.payback_month:
        payback = f"month {path.payback_month}" + (f", reverts in month {path.reverts_month}" if path.reverts_month else "")
    return (
        c.price.title,
        sure(mc.win_probability),
        _three(mc.first_tokens_per_month),
        _three_usd(mc.saving_usd_per_month),
        payback,
    )


def _flips(c: Comparison) -> tuple[str, ...]:
    said = [f"{INPUT_NAMES[f.name]} \u00d7{f.multiple:.3g}" for f in c.flips[:3]]
    return (c.price.title, "own is cheaper" if c.wins_today else "API is cheaper", *said, *[NOTHING] * (3 - len(said)))


def _hybrid(c: Comparison) -> tuple[str, ...]:
    h = c.hybrid
    own, by_api = cents(h.own_usd_per_month), cents(h.api_usd_per_month)
    return (c.price.title, str(h.base_replicas), share(h.overflow_share), own, by_api, cents(h.usd_per_month))


def _efficiency(c: Comparison) -> tuple[str, ...]:
    e = c.efficiency
    if e is None:
        raise AssertionError
    ratios = (multiple(e.api_ratio), multiple(e.self_host_ratio))
    return (
        c.price.title,
        e.unit,
        cents(e.value_usd_per_month),
        *ratios,
        cents(e.api_usd_per_unit),
        cents(e.self_host_usd_per_unit),
    )


def _idle(run: str, found: IdleMeasured) -> tuple[str, ...]:
    times = (f"{found.observed_h:.3g} h", share(found.asleep_share), idle_savings.waits(found))
    saves = f"{share(found.saved_low)} to {share(found.saved_high)}"
    return (run, f"{found.policy} after {found.after_s:g} s", *times, saves, "measured", found.source)


def _three(q: Quantiles) -> str:
    return " / ".join("never" if v is None else human_count(v) for v in (q.p10, q.p50, q.p90))


def _three_usd(q: Quantiles) -> str:
    return " / ".join(cents(v) for v in (q.p10, q.p50, q.p90))
