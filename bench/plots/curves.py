"""Throughput against latency, and the latencies' distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tokenhour.bench.statistics import metrics
from tokenhour.contracts.plot_style import COLOURS, DASHES, RED
from tokenhour.contracts.records.probe import Probe, Probes
from tokenhour.contracts.records.request import RequestRow
from tokenhour.contracts.records.summary import LoadPoint, Percentiles, Summary

MOST_POINTS = 400
"""Of one line: more make the file large and the plot no better."""


def bounds(summary: Summary) -> list[tuple[str, str, float | None]]:
    """Return (name, field, bound) of the latencies that are shown: those with a bound, else TTFT and TPOT."""
    slo = summary.slo
    every = [("TTFT", "ttft", slo.ttft_s), ("TPOT", "tpot", slo.tpot_s), ("whole request", "e2e", slo.e2e_s)]
    return [one for one in every if one[2]] or every[:2]


def label(point: LoadPoint | Probe) -> str:
    """Name a probe by its load."""
    return f"{point.offered_rps:.3g}/s" if point.offered_rps else f"{point.concurrency} at once"


def throughput_latency(summary: Summary) -> Any:
    """Draw a panel a latency."""
    from matplotlib import pyplot as plt

    panels = bounds(summary)
    figure, axes = plt.subplots(1, len(panels), figsize=(4.8 * len(panels), 3.8), squeeze=False, layout="constrained")
    for axis, (name, field, bound) in zip(axes[0], panels, strict=True):
        points = [(p, at) for p in summary.load_curve if (at := _at(p, field)) is not None]
        line = sorted((p.output_tps, at) for p, at in points if p.arrivals != "closed")
        if line:
            axis.plot(*zip(*line, strict=True), color=COLOURS[0], linewidth=1)
        for p, at in points:
            filled = COLOURS[0] if p.passed else "white"
            axis.plot([p.output_tps], [at], color=COLOURS[0], marker="o", markerfacecolor=filled)
            # The saturated probe often lies right beside the highest rate: its label below, theirs above.
            offset = (5, -11) if p.arrivals == "closed" else (5, 4)
            axis.annotate(label(p), (p.output_tps, at), xytext=offset, textcoords="offset points", fontsize=8)
        if bound:
            axis.axhline(bound, color=RED, linewidth=1.2)
            axis.annotate(
                f"objective {bound:g} s", (0.01, bound), xycoords=("axes fraction", "data"), va="bottom", color=RED
            )
        # The margins first: they make room for the labels, and the limits then keep it.
        axis.margins(x=0.18, y=0.15)
        axis.set(xlabel="output tokens/s", ylabel=f"p{summary.slo.percentile:g} {name}, s", xlim=(0, None), ylim=(0, None))
    return figure


def _at(point: LoadPoint, field: str) -> float | None:
    found: Percentiles = getattr(point, field)
    return found.at_slo_s


def cumulative(summary: Summary, probes: Probes, requests: Sequence[RequestRow]) -> Any:
    """Draw a panel a latency with a line a probe."""
    from matplotlib import pyplot as plt

    panels = bounds(summary)
    figure, axes = plt.subplots(1, len(panels), figsize=(4.8 * len(panels), 3.8), squeeze=False, layout="constrained")
    for index, probe in enumerate(probes.probes):
        rows = inside(probe, requests)
        found = metrics.latencies(rows)
        for axis, (_, field, _) in zip(axes[0], panels, strict=True):
            values = np.sort(getattr(found, field))
            share = np.arange(1, len(values) + 1) / max(1, len(values) + found.failures)
            x, y = thin(values, share)
            style = {"color": COLOURS[index % 7], "linestyle": DASHES[(index // 7) % 7], "linewidth": 1.5}
            axis.step(x, y, where="post", label=label(probe), **style)
    for axis, (name, _, bound) in zip(axes[0], panels, strict=True):
        axis.axhline(summary.slo.percentile / 100, color="#777777", linewidth=0.8, linestyle=":")
        if bound:
            axis.axvline(bound, color=RED, linewidth=1.2)
        axis.set(xlabel=f"{name}, s", ylabel="share of the requests", xscale="log", ylim=(0, 1.02))
        axis.xaxis.set_major_formatter(few)
        axis.xaxis.set_minor_formatter(few)
        axis.tick_params(axis="x", which="minor", labelsize=8)
    if probes.probes:
        axes[0][-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8.5, title="offered")
    return figure


def few(value: float, _: object = None) -> str:
    """Label 1, 2 and 5 of each decade of a log axis."""
    return f"{value:g}" if f"{value:e}"[0] in "125" else ""


def inside(probe: Probe, requests: Sequence[RequestRow]) -> list[RequestRow]:
    """Return the probe's requests that were scheduled inside its window."""
    end = probe.window_start_s + probe.window_s
    return [r for r in requests if r.probe == probe.probe and probe.window_start_s <= r.scheduled_s < end]


def thin(x: Any, y: Any) -> tuple[Any, Any]:
    """Keep at most MOST_POINTS of a line, its ends among them."""
    if len(x) <= MOST_POINTS:
        return x, y
    keep = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).astype(int))
    return x[keep], y[keep]
