"""Savings multiply, and the published cases come out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenhour.breakeven.extras.lever_math import by_line, compound, saved_share, weights, whole
from tokenhour.contracts.records.verdict import CostLines
from tokenhour.contracts.records.verdict_extras import LeverFigure

BILL = CostLines(
    gpu_busy=300, gpu_idle=200, redundancy=100, ops=150, engineering=150, storage=40, egress=40, setup=20, total=1000
)


def figure(line: str, low: float, high: float) -> LeverFigure:
    """Return an assumed saving on one cost line."""
    return LeverFigure(lever="caching", line=line, low=low, high=high, badge="assumed", source="a test")


def test_savings_compound_as_the_article_says() -> None:
    """AI cost article (2026): $0.41 to $0.07 an answer is 82.9 %; 25, 35 and 20 % are 61.0 %."""
    assert saved_share(0.41, 0.07) == pytest.approx(0.829, abs=5e-4)
    assert compound([0.25, 0.35, 0.20]) == pytest.approx(0.610)


@given(st.lists(st.floats(0, 0.99), max_size=7))
def test_compounding_is_taking_one_after_the_other(savings: list[float]) -> None:
    """Savings apply one after the other, so together they never exceed their sum or the whole bill."""
    left = 1.0
    for saving in savings:
        left -= left * saving
    assert compound(savings) == pytest.approx(1 - left)
    assert compound(savings) <= min(1.0, sum(savings)) + 1e-12


def test_the_whole_saving_weighs_every_line() -> None:
    """S = 1 - sum_l w_l prod_k (1 - s_lk)."""
    lines = by_line([figure("gpu", 0.2, 0.5), figure("gpu", 0.1, 0.2), figure("ops", 0.0, 0.4)], weights(BILL))
    low, high = whole(lines)
    assert low == pytest.approx(1 - (0.6 * 0.8 * 0.9 + 0.15 + 0.25))
    assert high == pytest.approx(1 - (0.6 * 0.5 * 0.8 + 0.15 * 0.6 + 0.25))
    assert math.fsum(weights(BILL).values()) == pytest.approx(1)
