"""The first page: what a decision-maker must read, with each figure's place in the derivation. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from tokenhour.breakeven.inputs import names
from tokenhour.breakeven.report.number_format import NOTHING, count, percent, signed_usd, sure, usd, usd3
from tokenhour.breakeven.report.table import INPUT_NAMES
from tokenhour.breakeven.solve.recommendation import advice
from tokenhour.contracts.records.verdict import Comparison, Flip, RunVerdict, TornadoRow, Verdict

RECOMMENDED = {
    "stay": ("Stay", "with the API"),
    "hybrid": ("Hybrid", "own base, API for the peaks"),
    "self-host": ("Self-host", "on machines of your own"),
    "depends": ("Depends", "on which API you mean"),
    "none": ("No verdict", "no rate met the objective"),
}

GRAVE = ("invalid", "synthetic", "quality_gate")
"""Warnings that are shown in red."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure of the first page; `step` is the derivation's line that it comes from."""

    name: str
    value: str
    about: str
    step: str
    mood: str = ""
    """`good`, `bad` or nothing."""


def toughest(best: RunVerdict) -> Comparison:
    """Return the API that is hardest to beat: the cheapest for today's requests."""
    return min(best.comparisons, key=lambda c: c.blended_usd_per_mtok)


def facts(verdict: Verdict, best: RunVerdict, c: Comparison) -> Iterator[Fact]:
    """Yield the figures beside one API, in the order in which they are asked for."""
    saving = c.saving_usd_per_month
    if saving is None:
        saving = c.api_usd_per_month - c.self_host_usd_per_month
    better = "self-hosting is cheaper" if saving > 0 else "the API is cheaper" if saving < 0 else "the same"
    yield Fact(
        f"difference a month at {count(verdict.tokens_per_month)} tokens",
        usd(abs(saving)),
        f"{better}: own {usd(c.self_host_usd_per_month)}, API {usd(c.api_usd_per_month)}",
        "saving",
        "good" if saving > 0 else "bad" if saving < 0 else "",
    )
    yield _first(c)
    yield _stable(verdict, c)
    yield Fact("utilization at break-even", percent(c.utilization_at_breakeven), _use(c, best), "utilization")
    yield _payback(verdict, c)
    if c.monte_carlo:
        chance = c.monte_carlo.win_probability
        side, likely = ("self-hosting", chance) if chance >= 0.5 else ("the API", 1 - chance)
        about = f"that {side} is cheaper today, in {c.monte_carlo.draws:,} draws of all uncertain inputs"
        yield Fact("how sure", sure(likely), about, "certainty")


def headline(verdict: Verdict, best: RunVerdict | None) -> str:
    """Say the verdict without a name of any API, so that it is read in one breath; the sentence has the names."""
    if best is None:
        return verdict.sentence
    apis, at = best.comparisons, f"At {count(verdict.tokens_per_month)} tokens a month"
    wins, never = sum(c.wins_today for c in apis), sum(c.outcome == "never" for c in apis)
    all_of = {1: "the API", 2: "both APIs"}.get(len(apis), f"all {len(apis)} APIs")
    match verdict.recommendation:
        case "hybrid":
            said = f"{at} a base of one's own with overflow to the API is cheaper than either alone"
        case "self-host":
            said = f"{at} one's own is cheaper than {all_of}"
        case "stay":
            said = f"{at} {all_of} {'is' if len(apis) == 1 else 'are'} cheaper than one's own"
        case _:
            mixed = "" if wins else ", but a mixture is cheaper still than some of them"
            said = f"{at} one's own is cheaper than {wins} of the {len(apis)} APIs{mixed}"
    if not never or never == len(apis):
        return f"{said}; it never pays off at any volume." if never else f"{said}."
    return f"{said}; against {never} of them it never pays off."


def _first(c: Comparison) -> Fact:
    name = "first break-even"
    if c.outcome == "never":
        return Fact(name, "never", "does not pay off: a full machine costs more than the same tokens by API", "first", "bad")
    if c.outcome == "beyond_capacity" or c.first_tokens_per_month is None:
        return Fact(name, "beyond the fleet", "it would need more replicas than the scenario allows", "first", "bad")
    spread = c.first_interval
    known = spread is not None and spread.low is not None and spread.high is not None and spread.low < spread.high
    said = f"95 % of the measured capacity: {count(spread.low)} to {count(spread.high)}" if known and spread else ""
    machines = c.replicas_at_breakeven or 1
    about = f"tokens a month, on {machines} replica{'s' if machines > 1 else ''}{'; ' if said else ''}{said}"
    return Fact(name, count(c.first_tokens_per_month), about, "first")


def _stable(verdict: Verdict, c: Comparison) -> Fact:
    name = "for good above"
    if c.stable_tokens_per_month is None:
        said = "never" if c.outcome == "never" else "beyond the fleet"
        return Fact(name, said, "there is no volume from which self-hosting always wins", "stable", "bad")
    times = c.stable_tokens_per_month / verdict.tokens_per_month if verdict.tokens_per_month else None
    about = f"tokens a month, {times:.3g} times today's" if times else "tokens a month"
    return Fact(name, count(c.stable_tokens_per_month), about, "stable")


def _use(c: Comparison, best: RunVerdict) -> str:
    if c.utilization_at_breakeven is None:
        need = c.competitive_utilization
        if need is None:
            return "the API is free of charge"
        return f"machines would have to be {percent(need)} busy, which cannot be" if need > 1 else "no break-even"
    return f"of the planned capacity; today {percent(best.utilization_today)}"


def _payback(verdict: Verdict, c: Comparison) -> Fact:
    path = c.projection
    if path is None:
        return Fact("payback", NOTHING, "not projected", "payback")
    months = len(path.months)
    setup = verdict.economics.setup_usd if verdict.economics else 0.0
    if path.payback_month is None:
        return Fact("payback", "none", f"within {months} months", "payback", "bad")
    spent = f"of {usd(setup)} set-up" if setup else "nothing to pay back but the running cost"
    reverts = f"; reverts in month {path.reverts_month}" if path.reverts_month else ""
    return Fact("payback", f"month {path.payback_month}", f"{spent}{reverts}", "payback")


@dataclass(frozen=True, slots=True)
class Turn:
    """An assumption that turns the verdict when it moves."""

    name: str
    must: str
    """How far it must move."""
    likely: str
    """Whether that lies within its stated spread."""
    inside: bool


def turns(c: Comparison, limit: int = 3) -> list[Turn]:
    """Return the assumptions that turn today's verdict: those within their spread first, then the nearest."""
    rows = {row.name: row for row in c.tornado}
    found = [_turn(flip, rows.get(flip.name)) for flip in c.flips]
    return sorted(found, key=lambda turn: not turn.inside)[:limit]


def _turn(flip: Flip, row: TornadoRow | None) -> Turn:
    change = f"\u00d7{flip.multiple:.3g}" if flip.multiple >= 2 or flip.multiple < 0.5 else f"{flip.multiple - 1:+.0%}"
    must = f"{change}, to {_amount(flip)}"
    if row is None:
        return Turn(INPUT_NAMES[flip.name], must, "", inside=False)
    inside = row.low_input <= flip.multiple <= row.high_input
    spread = f"\u00d7{row.low_input:.3g} to \u00d7{row.high_input:.3g}, its P10 to P90"
    likely = f"may well happen: within {spread}" if inside else f"unlikely: outside {spread}"
    return Turn(INPUT_NAMES[flip.name], must, likely, inside=inside)


def _amount(flip: Flip) -> str:
    match flip.name:
        case "api_price":
            return f"{usd3(flip.value)} per M tokens"
        case "gpu_price":
            return f"{usd(flip.value)} a month for each replica"
        case "ops":
            return f"{usd(flip.value)} a month"
        case _:
            return f"{count(flip.value)} {flip.unit}"


@dataclass(frozen=True, slots=True)
class ApiRow:
    """A line of the first page's table: an API, its input, and what it comes to."""

    title: str
    input: str
    cells: tuple[str, ...]
    """Difference, first, for good, utilization, payback, sure, advice."""
    never: bool


def rows(best: RunVerdict) -> list[ApiRow]:
    """Return a line for each API."""
    found = []
    for c in best.comparisons:
        saving = c.api_usd_per_month - c.self_host_usd_per_month
        never = c.outcome == "never"
        ends = ["never" if never else count(v) for v in (c.first_tokens_per_month, c.stable_tokens_per_month)]
        path = c.projection
        payback = NOTHING if path is None else f"month {path.payback_month}" if path.payback_month else "none"
        wins = sure(c.monte_carlo.win_probability) if c.monte_carlo else NOTHING
        cells = (signed_usd(saving), *ends, percent(c.utilization_at_breakeven), payback, wins, advice(c))
        found.append(ApiRow(c.price.title, c.price.name, cells, never))
    return found


def plainly(best: RunVerdict, comparisons: Sequence[Comparison]) -> str:
    """Say plainly where it does not pay off; empty where it does everywhere."""
    never = [c.price.title for c in comparisons if c.outcome == "never"]
    if not never:
        return ""
    return (
        f"Does not pay off at any volume against {', '.join(never)}: a full replica of {best.run} costs more than its "
        "tokens cost there."
    )


def sentence_inputs(best: RunVerdict | None) -> tuple[str, ...]:
    """Name the inputs that the verdict's sentence speaks of."""
    return (names.VOLUME, names.capacity(best.run), best.machine) if best else ()


def warnings(verdict: Verdict) -> list[tuple[str, tuple[str, ...], bool]]:
    """Return each warning with the inputs that it speaks of, and whether it is grave."""
    about = zip_longest(verdict.warnings, verdict.cautions[: len(verdict.warnings)])
    return [(text, said.inputs if said else (), bool(said and said.code in GRAVE)) for text, said in about]
