"""A month's bill as a bar for each run and API, idle time as its own part."""

from __future__ import annotations

from typing import Any

from tokenhour.breakeven.report.number_format import axis_usd, usd
from tokenhour.contracts.plot_style import COLOURS
from tokenhour.contracts.records.verdict import CostLines, Verdict

PARTS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    ("machines, busy", ("gpu_busy",), COLOURS[0], ""),
    ("machines, idle", ("gpu_idle",), "#ffffff", "////"),
    ("spare replicas", ("redundancy",), COLOURS[4], "...."),
    ("operations", ("ops",), COLOURS[5], ""),
    ("engineering", ("engineering",), COLOURS[1], ""),
    ("storage, egress", ("storage", "egress"), COLOURS[3], ""),
    ("set-up", ("setup",), COLOURS[2], ""),
)


def stacked(verdict: Verdict) -> Any:
    """Draw the bars; a part that no run has is left out of the legend."""
    from matplotlib import pyplot as plt

    runs = [(r.run, r.cost_today) for r in verdict.runs if r.cost_today]
    best = verdict.best
    apis = [(c.price.title, c.api_usd_per_month) for c in best.comparisons] if best else []
    figure, axis = plt.subplots(figsize=(9.6, 1.6 + 0.42 * (len(runs) + len(apis))), layout="constrained")
    seen: set[str] = set()
    for row, (_, bill) in enumerate(runs):
        _bar(axis, row, bill, seen)
    for row, (_, total) in enumerate(apis, len(runs)):
        axis.barh(row, total, color="#9a9a9a", height=0.6, label="by API" if row == len(runs) else None)
    totals = [bill.total for _, bill in runs] + [amount for _, amount in apis]
    for row, total in enumerate(totals):
        axis.annotate(usd(total), (total, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
    names = [f"own: {name}" for name, _ in runs] + [name for name, _ in apis]
    axis.set(
        yticks=range(len(names)),
        yticklabels=names,
        ylim=(len(names) - 0.5, -0.5),
        xlabel="USD a month at today's volume",
        xlim=(0, max(totals) * 1.12 or 1),
    )
    axis.xaxis.set_major_formatter(axis_usd)
    axis.grid(visible=False, axis="y")
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    return figure


def _bar(axis: Any, row: int, bill: CostLines, seen: set[str]) -> None:
    left = 0.0
    for name, fields, colour, hatch in PARTS:
        value = sum(getattr(bill, field) for field in fields)
        if value <= 0:
            continue
        label = None if name in seen else name
        seen.add(name)
        axis.barh(
            row, value, left=left, height=0.6, color=colour, hatch=hatch, edgecolor="#333333", linewidth=0.6, label=label
        )
        left += value
