"""A finished plot, and what all plots share."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tokenhour.breakeven.report.number_format import axis_usd
from tokenhour.contracts.plot_style import DPI, STYLE, TITLE
from tokenhour.contracts.units import human_count

TITLES = {
    "cost": "Monthly cost against volume",
    "load": "Cost of a million tokens against load",
    "bill": "A month's bill at today's volume",
    "tornado": "What moves the saving most",
    "distribution": "Where the first break-even lies",
    "heatmap": "Own cost over API price",
    "day": "A day: demand and replicas",
    "ahead": "The months ahead: cumulative saving (line: inputs as they stand; band: P10 to P90 of all draws)",
    "latency": "Latency against throughput",
    "precision": "The runs side by side",
    "pareto": "Quality loss against cost",
}
"""What stands above each plot."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A finished plot: its file name without suffix, its caption (also its text alternative), PNG and SVG bytes."""

    name: str
    caption: str
    png: bytes
    svg: bytes


def render(name: str, caption: str, draw: Callable[[], Any]) -> Plot:
    """Draw a figure in the house's style and keep it as PNG and SVG, the same bytes for the same figure."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context(STYLE):
        figure = draw()
        figure.suptitle(TITLES[name], **TITLE)
        png, svg = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
        figure.savefig(svg, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    return Plot(name, caption, png.getvalue(), svg.getvalue())


def tokens(value: float, _: object = None) -> str:
    """Label an axis in tokens."""
    return human_count(value)


def few_digits(value: float, _: object = None) -> str:
    """Label 1, 2 and 5 of each decade."""
    return f"{value:g}" if f"{value:e}"[0] in "125" else ""


def few_dollars(value: float, _: object = None) -> str:
    """Label 1, 2 and 5 of each decade in dollars."""
    return axis_usd(value) if f"{value:e}"[0] in "125" else ""


def label_few(axis: Any, write: Callable[[float, object], str]) -> None:
    """Label a log axis sparsely, minor ticks too."""
    axis.set_major_formatter(write)
    axis.set_minor_formatter(write)
    axis.set_tick_params(which="minor", labelsize=8)
