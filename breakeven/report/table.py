"""A titled table of the verdict's further answers."""

from __future__ import annotations

from dataclasses import dataclass

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
    """The line of the derivation that says how; all tables of one question have the same."""
