"""A titled table of the verdict's further answers, and how such tables write figures."""

from __future__ import annotations

from dataclasses import dataclass

from tokenhour.contracts.records.verdict import Comparison

NOTHING = "\u2013"
INPUT_NAMES = {
    "api_price": "API price",
    "gpu_price": "price of the machine",
    "capacity": "capacity of a replica",
    "volume": "volume",
    "ops": "operations and engineering",
}
"""The uncertain inputs as people call them."""
OUTCOME_WORDS = {
    "stable": "from there for good",
    "first": "in windows, then for good",
    "never": "never",
    "beyond_capacity": "beyond the fleet limit",
}
ALMOST_SURE = 0.999
"""So many draws cannot say more."""
Rows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A titled table; `about` explains it in a sentence or two."""

    name: str
    title: str
    about: str
    columns: tuple[str, ...]
    rows: Rows
    uses: Rows
    """For each row the inputs that its figures stand on, by their names in the list of inputs."""
    step: str = ""
    """The line of the derivation that says how."""


def api(c: Comparison) -> str:
    """Name a comparison's API."""
    return f"{c.price.model} ({c.price.host})"


def usd(value: float | None) -> str:
    """Write dollars, with more digits below one."""
    if value is None:
        return NOTHING
    sign = "-" if value < 0 else ""
    return f"{sign}${abs(value):,.2f}" if abs(value) >= 1 or not value else f"{sign}${abs(value):.3g}"


def percent(value: float | None) -> str:
    """Write a share."""
    return NOTHING if value is None else f"{value:.1%}"


def sure(chance: float) -> str:
    """Write a chance that draws gave: never as certain."""
    if chance > ALMOST_SURE:
        return f"over {ALMOST_SURE:.1%}"
    return f"under {1 - ALMOST_SURE:.1%}" if chance < 1 - ALMOST_SURE else percent(chance)


def ratio(value: float | None) -> str:
    """Write a multiple."""
    return NOTHING if value is None else f"{value:.3g}x"
