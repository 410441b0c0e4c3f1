"""Cost of a million tokens against the load of one replica, with the rate that the objective allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tokenhour.breakeven.report.plots.figure import few_digits, few_dollars, label_few
from tokenhour.contracts.plot_style import COLOURS, DASHES, GREY, MARKERS
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import RunVerdict, Verdict
from tokenhour.contracts.units import SECONDS_PER_HOUR, TOKENS_PER_MTOK


def usd_against_load(verdict: Verdict, summaries: Sequence[Summary]) -> Any:
    """Draw a hyperbola a run, its measured points, its limit at the objective, and the APIs' prices."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(9.6, 4.6), layout="constrained")
    by_run = {s.run: s for s in summaries}
    runs = [r for r in verdict.runs if r.origin]
    rates = [_limit(run) for run in runs]
    low, high = min(rates) / 20, max([*rates, *(p.completed_rps for s in summaries for p in s.load_curve)]) * 1.15
    for index, (run, limit) in enumerate(zip(runs, rates, strict=True)):
        colour = COLOURS[index % 7]
        x = np.geomspace(low, limit, 200)
        # Runs on the same machine lie on one line but for its end: the first is the widest, so that all are seen.
        axis.plot(
            x,
            _usd(run, x * _tokens_a_request(run)),
            color=colour,
            linewidth=max(1.4, 4.4 - 1.3 * index),
            label=f"own: {run.run}",
        )
        axis.axvline(limit, color=colour, linewidth=1, linestyle=":")
        if run.run in by_run:
            _points(axis, run, by_run[run.run], index)
    best = verdict.best
    for index, c in enumerate(best.comparisons if best else ()):
        name = c.price.title
        axis.axhline(c.blended_usd_per_mtok, color=GREY, linestyle=DASHES[index % 7], linewidth=1.2, label=name)
    axis.set(
        xscale="log",
        yscale="log",
        xlim=(low, high),
        xlabel="requests a second on one replica (dotted: highest rate at the objective, before headroom)",
        ylabel="USD per M tokens, input plus output",
    )
    label_few(axis.yaxis, few_dollars)
    label_few(axis.xaxis, few_digits)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    return figure


def _tokens_a_request(run: RunVerdict) -> float:
    origin = run.origin
    if origin is None:
        raise AssertionError
    return origin.prompt_tokens + origin.output_tokens


def _limit(run: RunVerdict) -> float:
    """Return requests a second of one replica at the objective."""
    origin = run.origin
    if origin is None:
        raise AssertionError
    hour = (origin.input_tokens_per_hour.value + origin.output_tokens_per_hour.value) * origin.accelerators
    return hour / SECONDS_PER_HOUR / _tokens_a_request(run)


def _usd(run: RunVerdict, tokens_per_s: Any) -> Any:
    return run.replica_usd_per_hour / SECONDS_PER_HOUR / tokens_per_s * TOKENS_PER_MTOK


def _points(axis: Any, run: RunVerdict, summary: Summary, index: int) -> None:
    """Mark every probe by what it completed; hollow where the objective was missed or the loop was closed."""
    for point in summary.load_curve:
        tokens = point.input_tps + point.output_tps
        if tokens > 0 and point.completed_rps > 0:
            axis.plot(
                [point.completed_rps],
                [_usd(run, tokens)],
                color=COLOURS[index % 7],
                marker=MARKERS[index % 7],
                markerfacecolor=COLOURS[index % 7] if point.passed else "white",
                linestyle="none",
            )
