"""Monthly cost against volume: the staircase of each run, the APIs' lines, and where one's own is cheaper."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tokenhour.breakeven.report.number_format import axis_usd
from tokenhour.breakeven.report.plots.figure import tokens
from tokenhour.breakeven.solve.from_verdict import position
from tokenhour.breakeven.solve.recommendation import machine_name
from tokenhour.contracts.plot_style import COLOURS, DASHES, GREY, RED
from tokenhour.contracts.records.verdict import RunVerdict, Verdict
from tokenhour.contracts.units import TOKENS_PER_MTOK, human_count


def against_volume(verdict: Verdict, best: RunVerdict) -> Any:
    """Draw the staircase of every run against the APIs' lines, and the winning windows of the cheapest run below."""
    from matplotlib import pyplot as plt

    rows = len(best.comparisons)
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(9.6, 4.6 + 0.3 * rows), height_ratios=(4.6, 0.3 * rows + 0.2), sharex=True, layout="constrained"
    )
    volumes = volume_range(verdict, best)
    # No volume has no place on a log axis: it stands at the left edge.
    today = verdict.tokens_per_month or volumes[0]
    for index, run in enumerate(r for r in verdict.runs if r.capacity_tokens_per_month):
        usd = own_cost(verdict, run, volumes)
        label = f"own: {run.run}" + (" (INVALID)" if run.validity == "INVALID" else "")
        width = 2.4 if run is best else 1.2
        top.plot(volumes, usd, color=COLOURS[index % 7], linewidth=width, label=label)
    for index, comparison in enumerate(best.comparisons):
        line = volumes * comparison.blended_usd_per_mtok / TOKENS_PER_MTOK
        name = comparison.price.title
        top.plot(volumes, line, color=GREY, linestyle=DASHES[index % 7], linewidth=1.2, label=name)
    for axis in (top, bottom):
        axis.axvline(today, color=RED, linewidth=1)
        axis.axvspan(
            best.capacity_tokens_per_month, volumes[-1], facecolor="none", edgecolor="#cccccc", hatch="///", linewidth=0
        )
    top.annotate(
        f"today {human_count(verdict.tokens_per_month)}",
        (today, 0.98),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if verdict.tokens_per_month else 4, 0),
        textcoords="offset points",
        ha="right" if verdict.tokens_per_month else "left",
        va="top",
        color=RED,
    )
    usd = own_cost(verdict, best, volumes)
    top.set(
        xscale="log", yscale="log", ylabel="USD a month", xlim=(volumes[0], volumes[-1]), ylim=(min(usd) / 12, max(usd) * 12)
    )
    top.yaxis.set_major_formatter(axis_usd)
    top.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    _windows(bottom, verdict, best, volumes)
    return figure


def _windows(axis: Any, verdict: Verdict, best: RunVerdict, volumes: Any) -> None:
    for index, comparison in enumerate(best.comparisons):
        for window in comparison.windows:
            right = volumes[-1] if window.to is None else window.to
            axis.barh(index, right - window.above, left=window.above, height=0.6, color=COLOURS[2])
        if not comparison.windows:
            said = "never" if comparison.outcome == "never" else "beyond the fleet limit"
            axis.annotate(said, (0.01, index), xycoords=("axes fraction", "data"), va="center", color=RED, fontsize=9)
    names = [c.price.title for c in best.comparisons]
    axis.set(
        yticks=range(len(names)),
        yticklabels=names,
        xlabel="tokens a month, input plus output",
        ylim=(len(names) - 0.5, -0.5),
    )
    axis.tick_params(axis="y", labelsize=9)
    axis.grid(visible=False, axis="y")
    axis.set_title(f"where {best.run} on {machine_name(best, verdict.economics)} is cheaper", fontsize=10, loc="left")
    axis.xaxis.set_major_formatter(tokens)


def own_cost(verdict: Verdict, run: RunVerdict, volumes: Any) -> Any:
    """Return the run's monthly cost of each volume, same shape."""
    at = position(verdict, run)
    return at.fixed_usd + at.replica_usd * at.curve.replica_months(volumes / at.replica_tokens)


def volume_range(verdict: Verdict, best: RunVerdict) -> Any:
    """Choose volumes (log-spaced, float64) that show every crossing, today, and the first steps of the staircase."""
    capacity = best.capacity_tokens_per_month or 1.0
    crossings = [v for c in best.comparisons for v in (c.first_tokens_per_month, c.stable_tokens_per_month) if v]
    low = min(v for v in (*crossings, verdict.tokens_per_month, capacity) if v > 0) / 4
    high = min(max([*crossings, verdict.tokens_per_month, capacity * 4]) * 2, capacity * 200)
    count = 4000
    return np.logspace(math.log10(low), math.log10(max(high, verdict.tokens_per_month * 2)), count)
