"""The report's plots, by matplotlib, as PNG and SVG."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from breakeven.rebuild import position
from contracts.run import LoadPoint, Percentiles, Summary
from contracts.units import TOKENS_PER_MTOK, human_count
from contracts.verdict import RunVerdict, Verdict

# Okabe & Ito's palette: told apart by people with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (7, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "tokenhour",
    "figure.facecolor": "white",
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A finished plot: its file name without suffix, its caption (also its text alternative), PNG and SVG bytes."""

    name: str
    caption: str
    png: bytes
    svg: bytes


def all_plots(verdict: Verdict, summaries: Sequence[Summary]) -> list[Plot]:
    """Draw the plots of a report; those of measurements only where something was measured."""
    cost = [
        _render(
            "cost",
            "Monthly cost against volume: each step of the staircase is one more machine; below, the volumes at which the "
            "cheapest run beats each API. Hatched: more than the one machine that was measured.",
            lambda: cost_against_volume(verdict),
        )
    ]
    if not summaries:
        return cost
    slo = summaries[0].slo
    return [
        *cost,
        _render(
            "latency",
            f"Latency (p{slo.percentile:g}, from the scheduled arrival) against output throughput, with the objective. "
            "Hollow: saturated, closed loop.",
            lambda: throughput_against_latency(summaries),
        ),
        _render(
            "precision",
            "The precisions side by side: speed with its 95 % interval, quality loss, size and cost.",
            lambda: precision_comparison(verdict, summaries),
        ),
    ]


def _render(name: str, caption: str, draw: Callable[[], Any]) -> Plot:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context(_STYLE):
        figure = draw()
        png, svg = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", dpi=150, bbox_inches="tight")
        figure.savefig(svg, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    return Plot(name, caption, png.getvalue(), svg.getvalue())


def throughput_against_latency(summaries: Sequence[Summary]) -> Any:
    """Draw one panel a bounded latency; a line a run."""
    from matplotlib import pyplot as plt

    slo = summaries[0].slo
    panels = [
        (n, f, b) for n, f, b in (("TTFT", "ttft", slo.ttft_s), ("TPOT", "tpot", slo.tpot_s), ("e2e", "e2e", slo.e2e_s)) if b
    ]
    figure, axes = plt.subplots(1, len(panels), figsize=(4.8 * len(panels), 3.8), squeeze=False, layout="constrained")
    for axis, (name, field, bound) in zip(axes[0], panels, strict=True):
        for index, summary in enumerate(summaries):
            _curve(axis, summary, field, index)
        axis.axhline(bound, color="#b00020", linewidth=1.2)
        axis.annotate(
            f"objective {bound:g} s", (0.01, bound), xycoords=("axes fraction", "data"), va="bottom", color="#b00020"
        )
        axis.set(xlabel="output tokens/s", ylabel=f"p{slo.percentile:g} {name}, s", yscale="log", xlim=(0, None))
        low, high = axis.get_ylim()
        axis.set_ylim(min(low, bound / 3), max(high, bound * 1.8))
        for which in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            which(_few_digits)
        axis.tick_params(axis="y", which="minor", labelsize=8)
    axes[0][0].legend(loc="best")
    return figure


def _few_digits(value: float, _: int) -> str:
    """Label 1, 2 and 5 of each decade."""
    return f"{value:g}" if f"{value:e}"[0] in "125" else ""


def _curve(axis: Any, summary: Summary, field: str, index: int) -> None:
    def at(point: LoadPoint) -> tuple[float, float] | None:
        found: Percentiles = getattr(point, field)
        return None if found.at_slo_s is None else (point.output_tps, found.at_slo_s)

    open_loop = sorted(xy for p in summary.load_curve if p.arrivals == "poisson" and (xy := at(p)))
    saturated = [xy for p in summary.load_curve if p.arrivals == "closed" and (xy := at(p))]
    colour, marker = COLOURS[index % 7], MARKERS[index % 7]
    if open_loop:
        axis.plot(*zip(*open_loop, strict=True), color=colour, marker=marker, label=summary.scheme)
    if saturated:
        axis.plot(*zip(*saturated, strict=True), color=colour, marker=marker, linestyle="none", markerfacecolor="white")


def cost_against_volume(verdict: Verdict) -> Any:
    """Draw the staircase of every run against the APIs' lines, and the winning windows of the cheapest run below."""
    from matplotlib import pyplot as plt

    from breakeven.words import best_run

    best = best_run(verdict.runs)
    rows = len(best.comparisons) if best else 1
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(9.6, 4.6 + 0.3 * rows), height_ratios=(4.6, 0.3 * rows + 0.2), sharex=True, layout="constrained"
    )
    if best is None or best.capacity_tokens_per_month is None:
        top.annotate("no capacity at the objective", (0.5, 0.5), xycoords="axes fraction", ha="center")
        return figure
    volumes = volume_range(verdict, best)
    for index, run in enumerate(r for r in verdict.runs if r.capacity_tokens_per_month):
        usd = own_cost(verdict, run, volumes)
        label = f"own: {run.scheme}" + (" (INVALID)" if run.validity == "INVALID" else "")
        width = 2.4 if run is best else 1.2
        top.plot(volumes, usd, color=COLOURS[index % 7], linewidth=width, label=label)
    for index, comparison in enumerate(best.comparisons):
        line = volumes * comparison.blended_usd_per_mtok / TOKENS_PER_MTOK
        name = f"{comparison.price.model} ({comparison.price.host})"
        top.plot(volumes, line, color="#555555", linestyle=DASHES[index % 7], linewidth=1.2, label=name)
    for axis in (top, bottom):
        axis.axvline(verdict.tokens_per_month, color="#b00020", linewidth=1)
        axis.axvspan(
            best.capacity_tokens_per_month, volumes[-1], facecolor="none", edgecolor="#cccccc", hatch="///", linewidth=0
        )
    top.annotate(
        f"today {human_count(verdict.tokens_per_month)}",
        (verdict.tokens_per_month, 0.98),
        xycoords=("data", "axes fraction"),
        xytext=(-4, 0),
        textcoords="offset points",
        ha="right",
        va="top",
        color="#b00020",
    )
    usd = own_cost(verdict, best, volumes)
    top.set(
        xscale="log", yscale="log", ylabel="USD a month", xlim=(volumes[0], volumes[-1]), ylim=(min(usd) / 12, max(usd) * 12)
    )
    top.yaxis.set_major_formatter(lambda value, _: f"${value:,.0f}" if value >= 1 else f"${value:g}")
    top.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    _windows(bottom, best, volumes)
    return figure


def _windows(axis: Any, best: RunVerdict, volumes: Any) -> None:
    for index, comparison in enumerate(best.comparisons):
        for window in comparison.windows:
            right = volumes[-1] if window.to is None else window.to
            axis.barh(index, right - window.above, left=window.above, height=0.6, color=COLOURS[2])
        if not comparison.windows:
            axis.annotate(
                "never", (0.01, index), xycoords=("axes fraction", "data"), va="center", color="#b00020", fontsize=9
            )
    names = [f"{c.price.model} ({c.price.host})" for c in best.comparisons]
    axis.set(
        yticks=range(len(names)),
        yticklabels=names,
        xlabel="tokens a month, input plus output",
        ylim=(len(names) - 0.5, -0.5),
    )
    axis.tick_params(axis="y", labelsize=9)
    axis.grid(visible=False, axis="y")
    axis.set_title(f"where {best.scheme} on {best.machine.split(',')[0]} is cheaper", fontsize=10, loc="left")
    axis.xaxis.set_major_formatter(lambda value, _: human_count(value))


def own_cost(verdict: Verdict, run: RunVerdict, volumes: Any) -> Any:
    """Return the run's monthly cost of each volume, same shape."""
    at = position(verdict, run)
    return at.fixed_usd + at.replica_usd * at.curve.replica_months(volumes / at.replica_tokens)


def volume_range(verdict: Verdict, best: RunVerdict) -> Any:
    """Choose volumes (log-spaced, float64) that show every crossing, today, and the first steps of the staircase."""
    capacity = best.capacity_tokens_per_month or 1.0
    crossings = [v for c in best.comparisons for v in (c.first_tokens_per_month, c.stable_tokens_per_month) if v]
    low = min([*crossings, verdict.tokens_per_month, capacity]) / 4
    high = min(max([*crossings, verdict.tokens_per_month, capacity * 4]) * 2, capacity * 200)
    count = 4000
    return np.logspace(math.log10(low), math.log10(max(high, verdict.tokens_per_month * 2)), count)


def precision_comparison(verdict: Verdict, summaries: Sequence[Summary]) -> Any:
    """Draw small bar charts that share their rows: a row a run."""
    from matplotlib import pyplot as plt

    panels: list[tuple[str, list[float | None], list[tuple[float, float] | None], str]] = [
        (
            "output tokens/h\nat the SLO",
            [_hourly(s, at_slo=True) for s in summaries],
            [_spread(s) for s in summaries],
            "count",
        ),
        ("output tokens/h\nat the peak", [_hourly(s, at_slo=False) for s in summaries], [None] * len(summaries), "count"),
        ("mean KL, nats\n(quality loss)", [s.mean_kl_divergence for s in summaries], [None] * len(summaries), "plain"),
        ("weights, MB", [s.bytes_per_checkpoint / 1e6 for s in summaries], [None] * len(summaries), "plain"),
        (
            "USD per M output\nat planned load",
            [r.output_usd_per_mtok for r in verdict.runs],
            [None] * len(summaries),
            "plain",
        ),
    ]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(11, 1.3 + 0.5 * len(summaries)), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (title, values, spreads, style) in zip(axes[0], panels, strict=True):
        _bars(axis, values, spreads, style)
        axis.set_title(title, fontsize=10)
    axes[0][0].set(
        yticks=range(len(summaries)), yticklabels=[s.scheme for s in summaries], ylim=(len(summaries) - 0.5, -0.5)
    )
    return figure


def _bars(axis: Any, values: list[float | None], spreads: list[tuple[float, float] | None], style: str) -> None:
    top = max([v for v in values if v is not None] + [s[1] for s in spreads if s] + [1e-9])
    for index, (value, spread) in enumerate(zip(values, spreads, strict=True)):
        if value is None:
            axis.annotate("none", (0, index), va="center", fontsize=9)
            continue
        error = [[value - spread[0]], [spread[1] - value]] if spread else None
        axis.barh(index, value, color=COLOURS[index % 7], height=0.6, xerr=error, error_kw={"ecolor": "#333", "capsize": 3})
        text = human_count(value) if style == "count" else f"{value:.3g}"
        axis.annotate(text, ((spread[1] if spread else value) + 0.03 * top, index), va="center", fontsize=9)
    axis.set_xlim(0, top * 1.38)
    axis.set_xticks([])
    axis.grid(visible=False)
    axis.spines["bottom"].set_visible(False)


def _hourly(summary: Summary, *, at_slo: bool) -> float | None:
    found = summary.at_slo if at_slo else summary.peak
    return found.output_tokens_per_hour.value if found else None


def _spread(summary: Summary) -> tuple[float, float] | None:
    found = summary.at_slo.output_tokens_per_hour if summary.at_slo else None
    return (found.low, found.high) if found and found.low is not None and found.high is not None else None
