"""Quality loss against cost, with the runs that no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokenhour.contracts.plot_style import COLOURS, GREY, MARKERS

if TYPE_CHECKING:
    from tokenhour.breakeven.compare.runs import ComparedRun


def quality_against_cost(entries: Sequence[ComparedRun], best: set[str]) -> Any:
    """Draw a point a run with its intervals; the front is joined."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(8.4, 4.6), layout="constrained")
    shown = [(e.summary.run, e.cost, e.mean_kl) for e in entries if e.cost and e.mean_kl]
    front = sorted((cost.value, loss.value) for run, cost, loss in shown if run in best)
    if len(front) > 1:
        axis.step(*zip(*front, strict=True), where="post", color=GREY, linestyle="--", linewidth=1.2, label="Pareto front")
    for index, (run, cost, loss) in enumerate(shown):
        axis.errorbar(
            cost.value,
            loss.value,
            xerr=_error(cost),
            yerr=_error(loss),
            color=COLOURS[index % 7],
            marker=MARKERS[index % 7],
            markersize=8,
            markerfacecolor=COLOURS[index % 7] if run in best else "white",
            capsize=3,
            linestyle="none",
            label=run if run in best else f"{run} (another is cheaper and closer)",
        )
    priced = all(e.usd_per_mtok for e in entries if e.cost)
    unit = "USD" if priced else "accelerator-hours"
    axis.set(xlabel=f"{unit} per M output tokens (left is cheaper)", ylabel="mean KL, nats (down is closer to the original)")
    axis.set_xlim(left=0)
    top = max([loss.high or loss.value for _, _, loss in shown] or [1.0]) or 1.0
    # Room below zero for a marker, and no figure there: no loss is negative.
    axis.set_ylim(-0.05 * top, 1.1 * top)
    axis.set_yticks([tick for tick in axis.get_yticks() if 0 <= tick <= 1.1 * top])
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=9)
    return figure


def _error(found: Any) -> Any:
    if found.low is None or found.high is None:
        return None
    return [[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]]
