"""The verdict on a terminal."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import zip_longest

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tokenhour.breakeven.recheck import Recheck
from tokenhour.breakeven.report.table import OUTCOME_WORDS
from tokenhour.breakeven.report.tables import Section, sections
from tokenhour.contracts.records.verdict import Comparison, RunVerdict, Verdict
from tokenhour.contracts.units import human_count

WIDE = 180
"""Columns where there is no terminal to ask."""


def console() -> Console:
    """Return a console as wide as the terminal, or wide enough for a file."""
    return Console(width=None if Console().is_terminal else WIDE)


def print_verdict(found: Verdict) -> None:
    """Print the sentence, a row for each run and API, and the further sections."""
    out = console()
    out.print(f"\n[bold]{escape(found.sentence)}[/]\n")
    table = Table(title=f"Break-even at prices of {found.on_date}", title_justify="left")
    for name in ("run", "API", "API $/M", "own $/M today", "wins first above", "for good above", "how", "utilization there"):
        table.add_column(name, overflow="fold")
    for run in found.runs:
        for comparison in run.comparisons:
            table.add_row(*row(run, comparison))
        if not run.comparisons:
            invalid = run.validity == "INVALID"
            table.add_row(run.run, "INVALID: no figure" if invalid else "no tested rate met the SLO", *[""] * 6)
        table.add_section()
    out.print(table)
    for section in sections(found):
        print_section(section, out)
    _print_currency(found, out)
    _print_assumed(found, out)
    for text, caution in zip_longest(found.warnings, found.cautions[: len(found.warnings)]):
        invalid = caution is not None and caution.code == "invalid"
        out.print(f"[red]{escape(text)}[/]" if invalid else f"note: {escape(text)}")
    out.print(f"recompute by {found.recompute_by}")


def _print_currency(found: Verdict, out: Console) -> None:
    shown = found.currency
    if shown is None:
        return
    for run in found.runs:
        if run.cost_today:
            total = f"{run.cost_today.total / shown.usd_per_unit:,.2f} {shown.code} a month"
            out.print(
                f"{escape(run.run)} today: {total} at {shown.usd_per_unit:g} USD a {shown.code} ({escape(shown.source)})"
            )


def _print_assumed(found: Verdict, out: Console) -> None:
    """Print what nobody measured or quoted, so that no default goes unseen."""
    for item in found.assumptions:
        if item.badge == "assumed":
            out.print(f"[dim]assumed ({escape(item.source)}) {escape(item.name)}: {escape(item.value)}[/]")


def print_section(section: Section, out: Console | None = None) -> None:
    """Print one section as a table."""
    out = out or console()
    table = Table(title=section.title, title_justify="left", caption=section.about, caption_justify="left")
    for name in section.columns:
        table.add_column(name, overflow="fold")
    for cells in section.rows:
        table.add_row(*map(escape, cells))
    out.print(table)


def row(run: RunVerdict, comparison: Comparison) -> tuple[str, ...]:
    """Return the cells of a comparison."""
    first, stable = comparison.first_tokens_per_month, comparison.stable_tokens_per_month
    share = comparison.utilization_at_breakeven
    return (
        run.run
        + (" INVALID" if run.validity == "INVALID" else "")
        + (" quality FAIL" if run.quality_gate == "FAIL" else ""),
        comparison.price.title,
        f"{comparison.blended_usd_per_mtok:.3f}",
        f"{run.allocation_usd_per_mtok:.3f}" if run.allocation_usd_per_mtok is not None else "",
        human_count(first) if first is not None else "-",
        human_count(stable) if stable is not None else "-",
        OUTCOME_WORDS[comparison.outcome],
        f"{share:.1%}" if share is not None else "-",
    )


def print_recheck(found: Sequence[Recheck], on: dt.date) -> None:
    """Print past comparisons beside what today's prices make of them."""
    out = console()
    table = Table(title=f"Past verdicts at prices of {on}", title_justify="left")
    for name in ("verdict", "run", "API", "then", "now", "first break-even then", "now", ""):
        table.add_column(name, overflow="fold")
    for r in found:
        then, now = (_side(r.won), _side(r.wins))
        first = [human_count(v) if v is not None else "-" for v in (r.first_then, r.first_now)]
        mark = "[red]flips[/]" if r.flips else escape(r.problem)
        table.add_row(f"{r.experiment}, {r.solved_on}", r.run, r.api, then, now, *first, mark)
    out.print(table)
    out.print(f"{sum(r.flips for r in found)} of {len(found)} comparisons flip")


def _side(wins: bool | None) -> str:
    return {True: "own is cheaper", False: "API is cheaper", None: "-"}[wins]
