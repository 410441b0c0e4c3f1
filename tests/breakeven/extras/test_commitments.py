"""Reserving against trying every split."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tokenhour.breakeven.extras.commitments import Option, cheapest, utilizations
from tokenhour.contracts.errors import InputError

PRICE = st.none() | st.floats(0.1, 5)
OPTIONS = st.lists(st.tuples(PRICE, PRICE, st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=3)
DEMAND = st.lists(st.integers(0, 5), min_size=1, max_size=8).filter(any)
Rows = Sequence[tuple[float | None, float | None, int, int]]


def by_hand(rows: Rows, demand: Sequence[int]) -> float:
    """Try every number of reserved units; serve each hour's rest with the cheapest free hourly units."""
    best = math.inf
    hourly = sorted(usd for _, usd, _, most in rows if usd is not None for _ in range(most))
    choices = [range(most + 1) if usd is not None else (0,) for usd, _, most, _ in rows]
    for counts in itertools.product(*choices):
        cost = sum(n * (row[0] or 0.0) for n, row in zip(counts, rows, strict=True) if n)
        have, possible = sum(counts), True
        for d in demand:
            rest = max(0, d - have)
            possible &= rest <= len(hourly)
            cost += sum(hourly[:rest]) / len(demand)
        best = min(best, cost if possible else math.inf)
    return best


@settings(max_examples=200, deadline=None)
@given(OPTIONS, DEMAND)
def test_the_plan_is_that_of_trying_every_split(rows: Rows, demand: list[int]) -> None:
    """The reservation plan costs no more than any other split, and its stated lines add up to its price."""
    options = [Option(str(i), r, o, mr, mo) for i, (r, o, mr, mo) in enumerate(rows)]
    best = by_hand(rows, demand)
    if math.isinf(best):
        with pytest.raises(InputError, match="at the peak"):
            cheapest(options, np.array(demand, dtype=float))
        return
    plan = cheapest(options, np.array(demand, dtype=float))
    assert plan.usd_per_hour == pytest.approx(best)
    told = sum(
        n * (o.reserved_usd or 0) + m * (o.on_demand_usd or 0)
        for o, n, m in zip(options, plan.reserved, plan.on_demand_mean, strict=True)
    )
    assert told == pytest.approx(plan.usd_per_hour)


@given(DEMAND)
def test_the_utilization_of_a_layer_is_the_share_of_hours_that_need_it(demand: list[int]) -> None:
    """Each further replica is busy for the share of hours whose demand reaches it."""
    found = utilizations(np.array(demand, dtype=float))
    assert found == pytest.approx([np.mean([d >= j for d in demand]) for j in range(1, max(demand) + 1)])


@given(DEMAND, st.floats(0.05, 0.95))
def test_a_unit_is_reserved_when_it_is_used_more_than_its_price_ratio(demand: list[int], ratio: float) -> None:
    """The newsvendor's rule."""
    q = utilizations(np.array(demand, dtype=float))
    assume(np.abs(q - ratio).min() > 1e-9)
    plan = cheapest([Option("a", ratio, 1.0, 99, 99)], np.array(demand, dtype=float))
    assert plan.reserved[0] == (q > ratio).sum()


def test_two_clouds_are_one_portfolio() -> None:
    """The cheaper reservation first, up to its limit, then the other; the peak by the hour where that is cheapest."""
    demand = np.array([4.0] * 20 + [6.0] * 4)
    plan = cheapest([Option("a", 1.0, 3.0, 2, 99), Option("b", 1.5, 2.5, 99, 99)], demand)
    assert plan.reserved == (2, 2)
    assert plan.on_demand_mean == pytest.approx((0.0, 2 * 4 / 24))
