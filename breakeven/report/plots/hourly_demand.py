"""Demand hour by hour against the replicas that serve it, and what would overflow to the API."""

from __future__ import annotations

from typing import Any

import numpy as np

from tokenhour.breakeven.solve.from_verdict import position
from tokenhour.contracts.plot_style import COLOURS
from tokenhour.contracts.records.verdict import Comparison, RunVerdict, Verdict

DAY = 24
MOST_HOURS = 168


def caption(verdict: Verdict, best: RunVerdict, c: Comparison) -> str:
    """Say what the plot shows and where the shape of the day comes from."""
    traffic, fleet = verdict.traffic, best.fleet
    if traffic is None or fleet is None:
        raise AssertionError
    base = c.hybrid.base_replicas
    own = f"{base} base replica{'s' if base > 1 else ''}" if base else "no replica of one's own"
    over = f"{c.hybrid.overflow_share:.1%} of the tokens by {c.price.title}"
    spares = f", {fleet.redundancy} of them spare" if fleet.redundancy else ""
    shape = f"{traffic.profile_source} ({traffic.profile_badge})"
    return (
        f"Demand of {_hours(len(traffic.hourly_weights))} hours in replicas' capacity against the replicas of a "
        f"{fleet.scaling} fleet{spares}; dashed: the cheapest mixture, {own} and {over}. Profile: {shape}."
    )


def _hours(count: int) -> int:
    return DAY if count == 1 else min(count, MOST_HOURS)


def demand(verdict: Verdict, best: RunVerdict, c: Comparison) -> Any:
    """Draw demand, replicas and overflow; a flat profile as one day, a long trace by its first week."""
    from matplotlib import pyplot as plt

    at = position(verdict, best)
    u = at.tokens / at.replica_tokens
    hours = _hours(len(at.curve.weights))
    need = u * np.resize(at.curve.weights, hours)
    have = np.resize(at.curve.hourly(u), hours)
    edges = np.arange(hours + 1)
    figure, axis = plt.subplots(figsize=(9.6, 3.8), layout="constrained")
    axis.stairs(need, edges, fill=True, color=COLOURS[4], alpha=0.75, label="demand")
    axis.stairs(have, edges, color=COLOURS[0], linewidth=2, baseline=None, label="replicas running")
    base = c.hybrid.base_replicas
    if base:
        axis.axhline(base, color=COLOURS[1], linestyle="--", linewidth=1.6, label="base of the mixture")
    over = np.maximum(need, base)
    if (need > base).any():
        axis.fill_between(
            edges,
            np.append(np.full(hours, float(base)), base),
            np.append(over, over[-1]),
            step="post",
            facecolor="none",
            edgecolor=COLOURS[1],
            hatch="xxx",
            linewidth=0,
            label="overflow to the API" if base else "all by API, if mixed",
        )
    step = 3 if hours <= 48 else 24
    axis.set(
        xlim=(0, hours),
        xticks=range(0, hours + 1, step),
        ylim=(0, max(have.max(), need.max(), base) * 1.15 or 1),
        xlabel="hour" if hours <= 48 else "hour of the week (Monday 00:00 first)",
        ylabel="replicas, and demand in replicas' worth",
    )
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    return figure
