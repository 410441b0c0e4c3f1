"""How sure the verdict is: tornado, distribution of the break-even, and the heat map of price and utilization."""

from __future__ import annotations

from typing import Any

import numpy as np

from tokenhour.breakeven.report.number_format import axis_usd
from tokenhour.breakeven.report.plots.figure import few_dollars, label_few, tokens
from tokenhour.breakeven.report.table import INPUT_NAMES
from tokenhour.breakeven.solve.from_verdict import position
from tokenhour.contracts.plot_style import COLOURS, GREY, RED
from tokenhour.contracts.records.verdict import Comparison, MonteCarlo, RunVerdict, Verdict
from tokenhour.contracts.units import TOKENS_PER_MTOK, human_count

MOST_PANELS = 6


def tornado(c: Comparison) -> Any:
    """Draw a bar an input, from the saving at its low end to that at its high end."""
    from matplotlib import pyplot as plt

    now = c.api_usd_per_month - c.self_host_usd_per_month
    figure, axis = plt.subplots(figsize=(9.6, 1.5 + 0.5 * len(c.tornado)), layout="constrained")
    span = max(abs(v - now) for row in c.tornado for v in (row.low_saving_usd_per_month, row.high_saving_usd_per_month)) or 1
    for index, row in enumerate(c.tornado):
        ends = ((row.low_input, row.low_saving_usd_per_month, 0), (row.high_input, row.high_saving_usd_per_month, 1))
        # The longer bar first, so that the shorter stays visible when both lie on one side.
        for multiple, saving, which in sorted(ends, key=lambda end: -abs(end[1] - now)):
            colour = COLOURS[4] if which == 0 else COLOURS[5]
            axis.barh(index, saving - now, left=now, height=0.55, color=colour, edgecolor="#333333", linewidth=0.6)
            right = saving > now or (saving == now and which == 1)
            if abs(saving - now) > 0.01 * span:
                axis.annotate(
                    f"\u00d7{multiple:.3g}",
                    (saving, index),
                    xytext=(4 if right else -4, 0),
                    textcoords="offset points",
                    va="center",
                    ha="left" if right else "right",
                    fontsize=9,
                )
        if max(abs(saving - now) for _, saving, _ in ends) <= 0.001 * span:
            axis.annotate(" no effect today", (now, index), va="center", fontsize=9, color=GREY)
    axis.axvline(0, color=RED, linewidth=1.4)
    axis.axvline(now, color="#333333", linewidth=1)
    axis.margins(x=0.14)
    axis.set(
        yticks=range(len(c.tornado)),
        yticklabels=[INPUT_NAMES[row.name] for row in c.tornado],
        ylim=(len(c.tornado) - 0.5, -0.5),
        xlabel=f"saving a month against {c.price.title}: right of the red line self-hosting is cheaper",
    )
    axis.xaxis.set_major_formatter(axis_usd)
    axis.grid(visible=False, axis="y")
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[4]), plt.Rectangle((0, 0), 1, 1, color=COLOURS[5])]
    axis.legend(handles, ["at its P10", "at its P90"], loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    return figure


def distribution(verdict: Verdict, best: RunVerdict) -> Any:
    """Draw a histogram an API, on one axis of volumes."""
    from matplotlib import pyplot as plt

    shown = [(c, c.monte_carlo) for c in best.comparisons if c.monte_carlo][:MOST_PANELS]
    figure, axes = plt.subplots(
        len(shown), 1, figsize=(9.6, 0.6 + 1.05 * len(shown)), sharex=True, squeeze=False, layout="constrained"
    )
    for axis, (c, mc) in zip(axes[:, 0], shown, strict=True):
        _histogram(axis, mc)
        axis.axvline(verdict.tokens_per_month or np.nan, color=RED, linewidth=1)
        axis.set_title(f"{c.price.title}{_rest(mc)}", fontsize=9.5, loc="left")
        axis.set(yticks=[], xscale="log")
        axis.grid(visible=False, axis="y")
    axes[-1][0].set_xlabel("first break-even, tokens a month (red: today)")
    axes[-1][0].xaxis.set_major_formatter(tokens)
    axes[-1][0].xaxis.set_minor_formatter("")
    return figure


def _rest(mc: MonteCarlo) -> str:
    if not mc.never_probability:
        return ""
    return f"; none in {mc.never_probability:.0%} of the draws" if mc.never_probability >= 0.005 else "; none in under 1%"


def _histogram(axis: Any, mc: MonteCarlo) -> None:
    from matplotlib import patheffects

    if not mc.histogram_counts:
        axis.annotate("no break-even in any draw", (0.01, 0.5), xycoords="axes fraction", va="center", color=RED)
        return
    axis.stairs(mc.histogram_counts, mc.histogram_edges_tokens, fill=True, color=COLOURS[4])
    q = mc.first_tokens_per_month
    for value, style in ((q.p10, ":"), (q.p50, "-"), (q.p90, ":")):
        if value is not None:
            axis.axvline(value, color="#333333", linewidth=1.1, linestyle=style)
    if q.p50 is not None:
        text = axis.annotate(
            f" {human_count(q.p50)}", (q.p50, 0.97), xycoords=("data", "axes fraction"), fontsize=9, va="top"
        )
        text.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground="white")])


def heatmap(verdict: Verdict, best: RunVerdict) -> Any:
    """Draw own cost over API price; all cost of a month in which one replica is busy for the given share."""
    from matplotlib import colors, patheffects
    from matplotlib import pyplot as plt

    at = position(verdict, best)
    full = (at.fixed_usd + at.replica_usd) / at.replica_tokens * TOKENS_PER_MTOK
    prices = [c.blended_usd_per_mtok for c in best.comparisons if c.blended_usd_per_mtok > 0]
    ends = [*prices, full, full * 10]
    x = np.geomspace(min(ends) / 2, max(ends) * 2, 240)
    y = np.geomspace(0.01, 1.0, 160)
    ratio = full / y[:, None] / x[None, :]
    figure, axis = plt.subplots(figsize=(9.6, 4.6), layout="constrained")
    norm = colors.TwoSlopeNorm(0.0, -2.0, 2.0)
    image = axis.pcolormesh(
        x, y, np.clip(np.log10(ratio), -2, 2), cmap="PuOr_r", norm=norm, shading="gouraud", rasterized=True
    )
    edge = axis.contour(
        x, y, ratio, levels=[0.1, 0.5, 1.0, 2.0, 10.0], colors="#333333", linewidths=(0.6, 0.6, 2.2, 0.6, 0.6)
    )
    axis.clabel(edge, levels=[0.5, 1.0, 2.0], fmt=lambda v: "equal" if v == 1 else f"{v:g}\u00d7", fontsize=9)
    today = best.utilization_today
    height = min(1.0, max(0.012, today)) if today else 0.012
    priced = sorted((c for c in best.comparisons if c.blended_usd_per_mtok > 0), key=lambda c: c.blended_usd_per_mtok)
    for index, c in enumerate(priced):
        place = (c.blended_usd_per_mtok, height)
        axis.plot(*place, marker="o", color="white", markeredgecolor="#111111", markersize=7, clip_on=False)
        # Labels alternate in height, away from the edge, so that neighbours do not cover each other; a line says whose.
        lift = (16 + 17 * (index % 3)) * (-1 if height > 0.1 else 1)
        text = axis.annotate(
            c.price.title,
            place,
            xytext=(6, lift),
            textcoords="offset points",
            fontsize=8.5,
            va="center",
            ha="right" if index > len(priced) / 2 else "left",
            arrowprops={"arrowstyle": "-", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3},
        )
        text.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground="white")])
    axis.set(
        xscale="log", yscale="log", xlabel="API price, USD per M tokens at today's mix", ylabel="utilization of a replica"
    )
    label_few(axis.xaxis, few_dollars)
    axis.yaxis.set_major_formatter(lambda v, _: f"{v:.0%}")
    axis.yaxis.set_minor_formatter(lambda v, _: f"{v:.0%}" if f"{v:e}"[0] in "25" else "")
    axis.tick_params(axis="y", which="minor", labelsize=8)
    axis.grid(visible=False)
    bar = figure.colorbar(image, ax=axis, ticks=[-2, -1, 0, 1, 2])
    bar.ax.set_yticklabels(["0.01\u00d7", "0.1\u00d7", "equal", "10\u00d7", "100\u00d7"])
    bar.set_label("own cost over API price")
    return figure
