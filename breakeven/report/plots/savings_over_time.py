"""The months ahead: cumulative saving with its band."""

from __future__ import annotations

from typing import Any

from tokenhour.breakeven.report.number_format import axis_usd
from tokenhour.contracts.plot_style import COLOURS, RED
from tokenhour.contracts.records.verdict import Comparison, Projection, RunVerdict

COLUMNS = 3


def cumulative(best: RunVerdict) -> Any:
    """Draw a panel an API, each on its own scale of money."""
    from matplotlib import pyplot as plt

    shown: list[tuple[Comparison, Projection]] = [(c, c.projection) for c in best.comparisons if c.projection]
    columns = min(COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(9.8, 0.5 + 2.5 * lines), squeeze=False, sharex=True, layout="constrained"
    )
    for axis, (c, path) in zip(axes.flat, shown, strict=False):
        _panel(axis, c, path)
    for axis in list(axes.flat)[len(shown) :]:
        axis.set_visible(False)
    figure.supxlabel("month", fontsize=10)
    figure.supylabel("cumulative saving, USD", fontsize=10)
    return figure


def _panel(axis: Any, c: Comparison, path: Projection) -> None:
    months = [m.month for m in path.months]
    low = [m.cumulative_p10_usd for m in path.months]
    high = [m.cumulative_p90_usd for m in path.months]
    if None not in low and None not in high:
        axis.fill_between(months, low, high, color=COLOURS[4], alpha=0.45, linewidth=0)
    axis.plot(months, [m.cumulative_saving_usd for m in path.months], color=COLOURS[0], linewidth=2)
    axis.axhline(0, color=RED, linewidth=1)
    said = f"payback in month {path.payback_month}" if path.payback_month else "no payback"
    if path.reverts_month:
        said += f", reverts in {path.reverts_month}"
    axis.set_title(f"{c.price.title}\n{said}", fontsize=9, loc="left")
    axis.yaxis.set_major_formatter(axis_usd)
    axis.tick_params(labelsize=8.5)
    axis.set_xlim(1, max(months[-1], 2))
