"""A line of the derivation."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One line. `name` is its anchor; `uses` names the inputs that go into it, `after` the lines before it."""

    name: str
    title: str
    formula: str
    numbers: str
    value: str
    uses: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def slug(text: str) -> str:
    """Turn an input's name into an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
