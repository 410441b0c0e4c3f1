"""What is wrong, old, about to end or disputed among the prices. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from tokenhour.breakeven.prices.tables import Tables, in_force
from tokenhour.contracts.config.prices import ApiPrice, InstancePrice

DISAGREES_ABOVE = 0.05
SOON_DAYS = 60
NOTES = ("ended", "ends soon")
"""Worth knowing, and no fault of the tables: rows are never taken out."""


@dataclass(frozen=True, slots=True)
class PriceFinding:
    """`kind`: old, disagreement, twice, ended or ends soon."""

    kind: str
    row: str
    what: str

    @property
    def is_note(self) -> bool:
        """Tell whether nothing has to be done about it."""
        return self.kind in NOTES


def findings(tables: Tables, others: Sequence[ApiPrice], on: dt.date, max_age_days: int) -> list[PriceFinding]:
    """Look at every row; `others` are rows of other sources to compare with."""
    return [
        *_old([*tables.apis, *tables.instances], on, max_age_days),
        *_ending(tables.apis, on),
        *_twice(tables.apis),
        *_disputed(tables.apis, others, on),
    ]


def name_of(row: ApiPrice | InstancePrice) -> str:
    """Name a row as a person would look for it."""
    return f"{row.model} at {row.host}" if isinstance(row, ApiPrice) else f"{row.instance} at {row.cloud}"


def _old(rows: Sequence[ApiPrice | InstancePrice], on: dt.date, max_age_days: int) -> Iterator[PriceFinding]:
    for row in rows:
        age = (on - row.checked_on).days
        if age > max_age_days:
            yield PriceFinding("old", name_of(row), f"checked on {row.checked_on}, {age} days ago")


def _ending(rows: Sequence[ApiPrice], on: dt.date) -> Iterator[PriceFinding]:
    for row in rows:
        if row.deprecated_on and row.deprecated_on <= on:
            yield PriceFinding("ended", name_of(row), f"on {row.deprecated_on}")
        elif row.deprecated_on and (row.deprecated_on - on).days <= SOON_DAYS:
            yield PriceFinding("ends soon", name_of(row), f"on {row.deprecated_on}")


def _twice(rows: Sequence[ApiPrice]) -> Iterator[PriceFinding]:
    for a, b in combinations(rows, 2):
        key = (a.model, a.host, a.effective_from, a.checked_on)
        if key == (b.model, b.host, b.effective_from, b.checked_on):
            yield PriceFinding(
                "twice", name_of(a), f"two rows hold from {a.effective_from or 'no date'}, checked {a.checked_on}"
            )


def _disputed(rows: Sequence[ApiPrice], others: Sequence[ApiPrice], on: dt.date) -> Iterator[PriceFinding]:
    keys = dict.fromkeys((row.model, row.host) for row in rows)
    for model, host in keys:
        ours = in_force([r for r in rows if (r.model, r.host) == (model, host)], on)
        theirs = [r for r in others if (r.model, r.host) == (model, host)]
        for source in dict.fromkeys(r.source.removesuffix(" (undated snapshot)") for r in theirs):
            other = in_force([r for r in theirs if r.source.startswith(source)], on)
            if ours and other and (said := disagreement(ours, other)):
                yield PriceFinding("disagreement", f"{model} at {host}", f"{said} ({ours.source} against {other.source})")


def disagreement(ours: ApiPrice, other: ApiPrice) -> str:
    """Say which prices differ by more than 5 % of the lower one; empty when they agree."""
    said = []
    for name in ("input", "output", "cache_read"):
        a, b = getattr(ours, name), getattr(other, name)
        if a is not None and b is not None and abs(float(a) - float(b)) > DISAGREES_ABOVE * min(float(a), float(b)):
            said.append(f"{name} {a} against {b}")
    return ", ".join(said)
