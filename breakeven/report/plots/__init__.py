"""The report's plots, by matplotlib, as PNG and SVG, in the order in which a reader needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokenhour.breakeven.report.plots import (
    cost_vs_load,
    cost_vs_volume,
    hourly_demand,
    measured,
    monthly_bill,
    savings_over_time,
    uncertainty,
)
from tokenhour.breakeven.report.plots.figure import Plot, render
from tokenhour.breakeven.report.summary_page import toughest
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import RunVerdict, Verdict
from tokenhour.contracts.units import human_count

__all__ = ["Plot", "all_plots"]


def all_plots(verdict: Verdict, summaries: Sequence[Summary]) -> list[Plot]:
    """Draw the plots of a report."""
    best = verdict.best
    found = [*(_of_verdict(verdict, best, summaries) if best else ())]
    if summaries:
        found += _of_runs(verdict, summaries)
    return found


def _of_verdict(verdict: Verdict, best: RunVerdict, summaries: Sequence[Summary]) -> Iterator[Plot]:
    hard = toughest(best)
    yield render(
        "cost",
        "Monthly cost against volume: each step of the staircase is one more replica; below, the volumes at which the "
        "cheapest run beats each API. Hatched: more than the one replica that was measured.",
        lambda: cost_vs_volume.against_volume(verdict, best),
    )
    yield render(
        "load",
        "Cost of a million tokens against the load of one replica. Points are measured probes (hollow: the objective was "
        "missed, or the loop was closed); each line ends at the highest rate that met it. Runs on one machine share a line.",
        lambda: cost_vs_load.usd_against_load(verdict, summaries),
    )
    yield render(
        "bill",
        f"A month at today's {human_count(verdict.tokens_per_month)} tokens: what is paid for tokens, and what for machines "
        "that wait (hatched).",
        lambda: monthly_bill.stacked(verdict),
    )
    if hard.tornado:
        yield render(
            "tornado",
            f"Monthly saving against {hard.price.title} when one input at a time lies at its 10th and 90th percentile. A "
            "bar that crosses zero turns the verdict.",
            lambda: uncertainty.tornado(hard),
        )
    if any(c.monte_carlo and c.monte_carlo.histogram_counts for c in best.comparisons):
        yield render(
            "distribution",
            "Where the first break-even lies when all uncertain inputs are drawn at once; the lines are its 10th, 50th and "
            "90th percentile, and the share of draws without any is said.",
            lambda: uncertainty.distribution(verdict, best),
        )
    yield render(
        "heatmap",
        f"What a token of {best.run} costs over its API price, by that price and by how busy a replica is. Below 1 one's "
        "own is cheaper; marks: the APIs at today's utilization.",
        lambda: uncertainty.heatmap(verdict, best),
    )
    if best.fleet and verdict.traffic:
        yield render("day", hourly_demand.caption(verdict, best, hard), lambda: hourly_demand.demand(verdict, best, hard))
    if any(c.projection for c in best.comparisons):
        months = max(len(c.projection.months) for c in best.comparisons if c.projection)
        yield render(
            "ahead",
            f"Cumulative discounted saving over {months} months against each API, with the band from the 10th to the 90th "
            "percentile.",
            lambda: savings_over_time.cumulative(best),
        )


def _of_runs(verdict: Verdict, summaries: Sequence[Summary]) -> Iterator[Plot]:
    slo = summaries[0].slo
    yield render(
        "latency",
        f"Latency (p{slo.percentile:g}, from the scheduled arrival) against output throughput, with the objective. "
        "Hollow: saturated, closed loop.",
        lambda: measured.throughput_against_latency(summaries),
    )
    yield render(
        "precision",
        "The runs side by side: speed with its 95 % interval, quality loss, size and cost.",
        lambda: measured.side_by_side(verdict, summaries),
    )
