"""The verdict on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from contracts.units import human_count
from contracts.verdict import Comparison, RunVerdict, Verdict

OUTCOME_WORDS = {
    "stable": "from there for good",
    "first": "in windows, then for good",
    "never": "never",
    "beyond_capacity": "beyond the fleet limit",
}


def print_verdict(found: Verdict) -> None:
    """Print the sentence and a row for each run and API."""
    console = Console(width=None if Console().is_terminal else 180)
    console.print(f"\n[bold]{escape(found.sentence)}[/]\n")
    table = Table(title=f"Break-even at prices of {found.on_date}", title_justify="left")
    for name in ("run", "API", "API $/M", "own $/M today", "wins first above", "for good above", "how", "utilization there"):
        table.add_column(name, overflow="fold")
    for run in found.runs:
        for comparison in run.comparisons:
            table.add_row(*row(run, comparison))
        if not run.comparisons:
            table.add_row(run.run, "no tested rate met the SLO", *[""] * 6)
        table.add_section()
    console.print(table)
    for warning in found.warnings:
        console.print(f"[red]{escape(warning)}[/]" if "INVALID" in warning else f"note: {escape(warning)}")
    console.print(f"recompute by {found.recompute_by}")


def row(run: RunVerdict, comparison: Comparison) -> tuple[str, ...]:
    """Return the cells of a comparison."""
    first, stable = comparison.first_tokens_per_month, comparison.stable_tokens_per_month
    share = comparison.utilization_at_breakeven
    return (
        run.run + (" INVALID" if run.validity == "INVALID" else ""),
        f"{comparison.price.model} ({comparison.price.host})",
        f"{comparison.blended_usd_per_mtok:.3f}",
        f"{run.allocation_usd_per_mtok:.3f}" if run.allocation_usd_per_mtok is not None else "",
        human_count(first) if first is not None else "-",
        human_count(stable) if stable is not None else "-",
        OUTCOME_WORDS[comparison.outcome],
        f"{share:.1%}" if share is not None else "-",
    )
