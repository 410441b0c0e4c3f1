"""What the bench measured, run beside run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenhour.breakeven.report.plots.figure import few_digits, label_few
from tokenhour.contracts.plot_style import COLOURS, MARKERS, RED
from tokenhour.contracts.records.summary import LoadPoint, Percentiles, Summary
from tokenhour.contracts.records.verdict import Verdict
from tokenhour.contracts.units import human_count


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
        axis.axhline(bound, color=RED, linewidth=1.2)
        axis.annotate(f"objective {bound:g} s", (0.01, bound), xycoords=("axes fraction", "data"), va="bottom", color=RED)
        axis.set(xlabel="output tokens/s", ylabel=f"p{slo.percentile:g} {name}, s", yscale="log", xlim=(0, None))
        low, high = axis.get_ylim()
        axis.set_ylim(min(low, bound / 3), max(high, bound * 1.8))
        label_few(axis.yaxis, few_digits)
    if axes[0][0].get_legend_handles_labels()[0]:  # a window may hold too few requests for any percentile
        axes[0][0].legend(loc="best")
    return figure


def _curve(axis: Any, summary: Summary, field: str, index: int) -> None:
    def at(point: LoadPoint) -> tuple[float, float] | None:
        found: Percentiles = getattr(point, field)
        return None if found.at_slo_s is None else (point.output_tps, found.at_slo_s)

    open_loop = sorted(xy for p in summary.load_curve if p.arrivals != "closed" and (xy := at(p)))
    saturated = [xy for p in summary.load_curve if p.arrivals == "closed" and (xy := at(p))]
    colour, marker = COLOURS[index % 7], MARKERS[index % 7]
    if open_loop:
        axis.plot(*zip(*open_loop, strict=True), color=colour, marker=marker, label=summary.run)
    if saturated:
        look = {"color": colour, "marker": marker, "linestyle": "none", "markerfacecolor": "white"}
        axis.plot(*zip(*saturated, strict=True), **look, label=None if open_loop else summary.run)


def side_by_side(verdict: Verdict, summaries: Sequence[Summary]) -> Any:
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
    axes[0][0].set(yticks=range(len(summaries)), yticklabels=[s.run for s in summaries], ylim=(len(summaries) - 0.5, -0.5))
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
