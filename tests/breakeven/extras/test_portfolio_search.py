"""Placing features against trying every placement."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenhour.breakeven.extras import portfolio_search
from tokenhour.breakeven.extras.portfolio_search import Costs, Feature, place

SHAPES = [np.ones(168), np.tile([0.0] * 12 + [2.0] * 12, 7), np.tile([2.0] * 12 + [0.0] * 12, 7)]
FEATURES = st.lists(
    st.tuples(st.floats(0, 3000), st.floats(0.001, 3), st.integers(0, 2), st.booleans()), min_size=1, max_size=7
)


def features(rows: Sequence[tuple[float, float, int, bool]]) -> list[Feature]:
    """Build features from rows of API bill, size, daily shape and whether they may move."""
    return [
        Feature(f"f{i}", bill, size * SHAPES[shape], "" if free else "no")
        for i, (bill, size, shape, free) in enumerate(rows)
    ]


def by_hand(rows: Sequence[tuple[float, float, int, bool]], costs: Costs) -> float:
    """Return the lowest cost by trying every placement that is allowed."""
    best = math.inf
    made = features(rows)
    for chosen in itertools.product((False, True), repeat=len(made)):
        if any(c and f.stays_because for c, f in zip(chosen, made, strict=True)):
            continue
        total = sum(f.api_usd for c, f in zip(chosen, made, strict=True) if not c)
        if any(chosen):
            peak = max(sum(f.demand[t] for c, f in zip(chosen, made, strict=True) if c) for t in range(24))
            total += costs.fixed_usd + costs.replica_usd * (max(1, math.ceil(peak - 1e-9)) + costs.redundancy)
        best = min(best, total)
    return best


@settings(max_examples=60, deadline=None)
@given(FEATURES, st.floats(0, 2000), st.floats(1, 2000), st.integers(0, 1))
def test_the_placement_is_that_of_trying_them_all(
    rows: list[tuple[float, float, int, bool]], fixed: float, replica: float, spare: int
) -> None:
    """The placement of features is the cheapest one possible, and moves no feature that has to stay."""
    costs = Costs(fixed, replica, spare)
    found = place(features(rows), costs)
    assert found.exact
    assert found.total_usd == pytest.approx(by_hand(rows, costs), abs=1e-6)
    assert not any(moved and feature.stays_because for moved, feature in zip(found.moved, features(rows), strict=True))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 5000), st.floats(100, 2000))
def test_many_features_come_within_their_bound_and_never_cost_more_than_staying(
    seed: int, fixed: float, replica: float
) -> None:
    """Large portfolios get an approximate plan with an honest lower bound, never dearer than changing nothing."""
    rng = np.random.default_rng(seed)
    rows = [
        (float(b), float(s), int(k), True)
        for b, s, k in zip(rng.lognormal(5, 1.5, 60), rng.lognormal(-2.5, 1, 60), rng.integers(0, 3, 60), strict=True)
    ]
    found = place(features(rows), Costs(fixed, replica))
    assert not found.exact
    assert found.lower_bound_usd <= found.total_usd + 1e-6
    assert found.total_usd <= sum(row[0] for row in rows) + 1e-6


@settings(max_examples=30, deadline=None)
@given(FEATURES, st.floats(0, 2000), st.floats(1, 2000))
def test_the_order_for_many_is_close_to_trying_all_for_few(
    rows: list[tuple[float, float, int, bool]], fixed: float, replica: float
) -> None:
    """The heuristic on instances small enough to solve: never better than the best, seldom far from it."""
    costs = Costs(fixed, replica)
    made = [f for f in features(rows) if not f.stays_because]
    if not made:
        return
    demand, bills = np.stack([f.demand for f in made]), np.array([f.api_usd for f in made])
    chosen = portfolio_search._in_order(demand, bills, costs)
    serving = max(1, math.ceil(demand[chosen].sum(axis=0).max() - 1e-9)) if chosen.any() else 0
    total = float(costs.own(np.array([serving]))[0]) + bills[~chosen].sum()
    assert total >= by_hand([r for r in rows if r[3]], costs) - 1e-6
    assert total <= bills.sum() + 1e-6


def test_shared_replicas_are_counted_once_and_opposite_hours_share_one() -> None:
    """Alone, each of two features would need a replica of its own for the same hours; by day and by night they share it."""
    day, night = Feature("day", 600, 0.5 * SHAPES[1]), Feature("night", 600, 0.5 * SHAPES[2])
    found = place([day, night], Costs(0, 1000))
    assert found.moved == (True, True)
    assert found.replicas == 1
    assert found.own_usd == 1000
    same = place([day, Feature("day too", 600, 0.6 * SHAPES[1])], Costs(0, 1000))
    assert same.total_usd == 1200


def test_a_feature_that_alone_would_stay_moves_into_room_that_is_paid_for() -> None:
    """A feature too small to pay for a replica still moves when another one leaves room on it."""
    large, small = Feature("large", 5000, 0.7 * SHAPES[0]), Feature("small", 10, 0.1 * SHAPES[0])
    assert place([small], Costs(0, 1000)).moved == (False,)
    assert place([large, small], Costs(0, 1000)).moved == (True, True)
