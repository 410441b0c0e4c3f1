"""Savings that multiply on each cost line: S = 1 - sum_l w_l prod_k (1 - s_lk). Never summed. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from tokenhour.contracts.records.verdict import CostLines
from tokenhour.contracts.records.verdict_extras import LeverFigure, LeverLine

LINES = ("gpu", "ops", "engineering", "storage", "egress", "setup")


def compound(savings: Iterable[float]) -> float:
    """Return the saving of several on one line, 1 - prod(1 - s): 25, 35 and 20 % are 61 %."""
    return 1 - math.prod(1 - s for s in savings)


def saved_share(before: float, after: float) -> float:
    """Return 1 - after/before: from $0.41 to $0.07 an answer is 82.9 %."""
    return 1 - after / before


def weights(bill: CostLines) -> dict[str, float]:
    """Return each line's share of a bill; the machines' lines together are `gpu`."""
    amounts = {name: getattr(bill, name) for name in LINES if name != "gpu"}
    amounts["gpu"] = bill.gpu_busy + bill.gpu_idle + bill.redundancy
    total = sum(amounts.values())
    return {name: amounts[name] / total if total else 0.0 for name in LINES}


def by_line(figures: Sequence[LeverFigure], share: Mapping[str, float]) -> tuple[LeverLine, ...]:
    """Compound the figures of each line, at their low and at their high end."""
    found = []
    for line in LINES:
        here = [f for f in figures if f.line == line]
        low, high = compound(f.low for f in here), compound(f.high for f in here)
        found.append(LeverLine(line=line, weight=share[line], low=low, high=high))
    return tuple(found)


def whole(lines: Sequence[LeverLine]) -> tuple[float, float]:
    """Return the saving on the whole bill, low and high end."""
    return (sum(x.weight * x.low for x in lines), sum(x.weight * x.high for x in lines))
