"""The verdict's further answers as plain tables, alike on a terminal, in Markdown and in HTML; none unasked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from breakeven import idle
from breakeven.words import best_run
from contracts.units import human_count
from contracts.verdict import Comparison, IdleMeasured, Quantiles, RunVerdict, Verdict

NOTHING = "\u2013"
Rows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A titled table; `about` explains it in a sentence or two."""

    name: str
    title: str
    about: str
    columns: tuple[str, ...]
    rows: Rows


def sections(verdict: Verdict) -> list[Section]:
    """Return every section that the verdict has something for."""
    best = best_run(verdict.runs)
    made = [*(_of_run(best, verdict) if best else ()), *_of_scenario(verdict)]
    return [section for section in made if section.rows]


def named(verdict: Verdict, name: str) -> Section | None:
    """Return one section by its name."""
    return next((section for section in sections(verdict) if section.name == name), None)


def _of_run(best: RunVerdict, verdict: Verdict) -> Iterator[Section]:
    yield Section(
        "certainty",
        "How sure it is",
        f"{best.run} beside each API. Break-even and saving: 10th, 50th, 90th percentile over all uncertain inputs at once.",
        ("API", "wins today with", "first break-even P10 / P50 / P90", "saving a month P10 / P50 / P90", "payback"),
        tuple(_sure(c) for c in best.comparisons if c.monte_carlo),
    )
    yield Section(
        "flips",
        "What would turn it",
        "How far one input must move, alone, to turn today's verdict; nearest first.",
        ("API", "today", "first", "second", "third"),
        tuple(_flips(c) for c in best.comparisons if c.flips),
    )
    yield Section(
        "hybrid",
        "Own base, API for the rest",
        "The cheapest number of replicas of one's own at today's volume, hour by hour, with overflow to the API.",
        ("API", "base replicas", "overflow", "own a month", "API a month", "together"),
        tuple(_hybrid(c) for c in best.comparisons if c.hybrid.own_usd_per_month is not None),
    )
    yield Section(
        "efficiency",
        "Value for money",
        "Value over spend at today's volume.",
        ("API", "unit", "value a month", "API: value/spend", "own: value/spend", "API a unit", "own a unit"),
        tuple(_efficiency(c) for c in best.comparisons if c.efficiency),
    )
    yield Section(
        "idle",
        "Rest when idle",
        "Measured by the idle front while it served: what resting can save of the machine's cost, and what a wake costs a "
        "request.",
        ("run", "policy", "observed", "asleep", "a wake", "saves of the machine", "origin", "source"),
        tuple(_idle(r.run, r.idle) for r in verdict.runs if r.idle),
    )
    if best.energy_usd_per_mtok_output is not None and verdict.economics is not None:
        rate = verdict.economics.electricity_usd_per_kwh
        yield Section(
            "energy",
            "Electricity",
            f"Measured over the same window as the tokens, at ${rate:g} a kWh.",
            ("run", "USD per M output tokens"),
            tuple(
                (r.run, usd(r.energy_usd_per_mtok_output)) for r in verdict.runs if r.energy_usd_per_mtok_output is not None
            ),
        )


def _of_scenario(verdict: Verdict) -> Iterator[Section]:
    if found := verdict.portfolio:
        bound = "every placement was tried" if found.exact else f"none is below {usd(found.lower_bound_usd_per_month)}"
        yield Section(
            "portfolio",
            "Which feature belongs where",
            f"{usd(found.total_usd_per_month)} a month: {usd(found.self_host_usd_per_month)} for {found.replicas} shared "
            f"replicas, {usd(found.api_usd_per_month)} by API; all by API {usd(found.all_api_usd_per_month)}, all own "
            f"{usd(found.all_self_host_usd_per_month)} ({bound}).",
            ("feature", "side", "API", "by API a month", "replicas", "why"),
            tuple(
                (p.name, p.side, p.api, usd(p.api_usd_per_month), f"{p.replicas:.3g}", p.reason) for p in found.placements
            ),
        )
    if levers := verdict.levers:
        yield Section(
            "levers",
            "Levers",
            f"They multiply on each line and are never summed: together {percent(levers.low)} to {percent(levers.high)} of "
            f"{usd(levers.bill_usd_per_month)} a month. {' '.join(f'Left out: {x}.' for x in levers.left_out)}".strip(),
            ("lever", "cost line", "saves", "origin", "source"),
            tuple((f.lever, f.line, f"{percent(f.low)} to {percent(f.high)}", f.badge, f.source) for f in levers.figures),
        )
        yield Section(
            "lever_lines",
            "Levers by cost line",
            "Weight of each line in the bill, and what its levers come to together.",
            ("cost line", "weight", "saves"),
            tuple((x.line, percent(x.weight), f"{percent(x.low)} to {percent(x.high)}") for x in levers.lines if x.weight),
        )
    yield from _of_machines(verdict)
    if training := verdict.training:
        when = f"in month {training.crossover_month}" if training.crossover_month else "not within 120 months"
        yield Section(
            "training",
            "Training against inference",
            f"Inference has cost more than training {when}.",
            ("month", "training so far", "inference so far", "share of inference"),
            tuple(
                (str(m.month), usd(m.training_usd), usd(m.inference_usd), percent(m.inference_share))
                for m in training.months
            ),
        )


def _of_machines(verdict: Verdict) -> Iterator[Section]:
    if spot := verdict.spot:
        yield Section(
            "spot",
            "Interruptible machines",
            f"At {percent(spot.discount)} off on-demand ({spot.discount_source}); {spot.note}.",
            ("work", "pays", "overhead or replicas", "cost against on-demand"),
            (
                ("batch", _yes(spot.batch_viable), f"{percent(spot.overhead)} of the time lost", ratio(spot.price_ratio)),
                (
                    "serving",
                    _yes(spot.serving_viable),
                    f"{spot.serving_replicas} spot for {spot.on_demand_replicas} on-demand, with fallback",
                    ratio(1 - spot.serving_saved_share),
                ),
            ),
        )
    if plan := verdict.commitments:
        yield Section(
            "commitments",
            "How much to reserve",
            f"{usd(plan.usd_per_month)} a month against {usd(plan.all_on_demand_usd_per_month)} all by the hour; demand "
            f"{plan.demand_mean_replicas:.1f} replicas on average, {plan.demand_peak_replicas:.0f} at the peak.",
            ("machine", "term", "reserve", "by the hour, on average", "a month", "worth reserving above"),
            tuple(
                (
                    f"{r.cloud} {r.instance}",
                    r.term,
                    f"{r.reserved_replicas} replicas",
                    f"{r.on_demand_replicas_mean:.2f} replicas",
                    usd(r.usd_per_month),
                    percent(least),
                )
                for r, least in zip(plan.reservations, plan.break_even_utilization, strict=True)
            ),
        )


def _sure(c: Comparison) -> tuple[str, ...]:
    mc, path = c.monte_carlo, c.projection
    if mc is None:
        raise AssertionError
    payback = "none within the horizon"
    if path and path.payback_month:
        payback = f"month {path.payback_month}" + (f", reverts in month {path.reverts_month}" if path.reverts_month else "")
    return (
        api(c),
        percent(mc.win_probability),
        _three(mc.first_tokens_per_month),
        _three_usd(mc.saving_usd_per_month),
        payback,
    )


def _flips(c: Comparison) -> tuple[str, ...]:
    said = [f"{f.name.replace('_', ' ')} x{f.multiple:.3g}" for f in c.flips[:3]]
    return (api(c), "own is cheaper" if c.wins_today else "API is cheaper", *said, *[NOTHING] * (3 - len(said)))


def _hybrid(c: Comparison) -> tuple[str, ...]:
    h = c.hybrid
    own, by_api = usd(h.own_usd_per_month), usd(h.api_usd_per_month)
    return (api(c), str(h.base_replicas), percent(h.overflow_share), own, by_api, usd(h.usd_per_month))


def _efficiency(c: Comparison) -> tuple[str, ...]:
    e = c.efficiency
    if e is None:
        raise AssertionError
    ratios = (ratio(e.api_ratio), ratio(e.self_host_ratio))
    return (api(c), e.unit, usd(e.value_usd_per_month), *ratios, usd(e.api_usd_per_unit), usd(e.self_host_usd_per_unit))


def _idle(run: str, found: IdleMeasured) -> tuple[str, ...]:
    times = (f"{found.observed_h:.3g} h", percent(found.asleep_share), idle.waits(found))
    saves = f"{percent(found.saved_low)} to {percent(found.saved_high)}"
    return (run, f"{found.policy} after {found.after_s:g} s", *times, saves, "measured", found.source)


def api(c: Comparison) -> str:
    """Name a comparison's API."""
    return f"{c.price.model} ({c.price.host})"


def usd(value: float | None) -> str:
    """Write dollars, with more digits below one."""
    if value is None:
        return NOTHING
    sign = "-" if value < 0 else ""
    return f"{sign}${abs(value):,.2f}" if abs(value) >= 1 or not value else f"{sign}${abs(value):.3g}"


def percent(value: float | None) -> str:
    """Write a share."""
    return NOTHING if value is None else f"{value:.1%}"


def ratio(value: float | None) -> str:
    """Write a multiple."""
    return NOTHING if value is None else f"{value:.3g}x"


def _three(q: Quantiles) -> str:
    return " / ".join("never" if v is None else human_count(v) for v in (q.p10, q.p50, q.p90))


def _three_usd(q: Quantiles) -> str:
    return " / ".join(usd(v) for v in (q.p10, q.p50, q.p90))


def _yes(value: bool) -> str:
    return "yes" if value else "no"
