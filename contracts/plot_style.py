"""How every figure of the house looks: colours, dashes, markers, matplotlib's settings. Data alone: it imports nothing."""

from __future__ import annotations

from typing import Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's palette: told apart by people with any colour vision."""
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (7, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
RED = "#b00020"
GREY = "#555555"
STYLE: dict[str, Any] = {
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
TITLE: dict[str, Any] = {"x": 0.008, "ha": "left", "fontsize": 12, "fontweight": "bold"}
"""Of a whole figure: `figure.suptitle(text, **TITLE)`."""
DPI = 150
