"""The fleet's step curve against counting replicas hour by hour, and the crossings on it against looking everywhere."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tokenhour.breakeven.model import crossings
from tokenhour.breakeven.model.crossings_closed_form import Staircase
from tokenhour.breakeven.model.crossings_closed_form import solve as closed_form
from tokenhour.breakeven.model.replica_curve import Curve, Floats, Rules, ahead

WEIGHTS = st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any)
RULES = st.builds(
    Rules,
    redundancy=st.integers(0, 2),
    min_replicas=st.integers(0, 4),
    max_replicas=st.integers(3, 25),
    autoscale=st.booleans(),
    cold_start_s=st.sampled_from([0.0, 600.0, 3600.0, 9000.0]),
)
U = st.floats(0.01, 30.0)


def around_one(values: Sequence[float]) -> Floats:
    """Scale demand weights so that their mean is one."""
    return np.array(values, dtype=float) / np.mean(values)


def by_hand(weights: Floats, rules: Rules, u: float) -> float:
    """economics.md, Self-host month: n_t, plus the cold start of every replica that is started; in replica-months."""
    hours, cold_h = len(weights), rules.cold_start_s / 3600
    if not rules.autoscale:
        return max(rules.min_replicas, math.ceil(u * max(weights)) + rules.redundancy)
    n = []
    for t in range(hours):
        ready_for = max(weights[(t + later) % hours] for later in range(int(cold_h) + 1))
        n.append(max(rules.min_replicas, math.ceil(u * ready_for) + rules.redundancy))
    started = sum(max(0, n[t] - n[t - 1]) for t in range(hours))
    return sum(n) / hours + started * cold_h / hours


def off_the_edge(weights: Floats, u: float) -> bool:
    """Tell whether no hour's demand lies so near a whole replica that rounding would decide."""
    return all(abs(u * w - round(u * w)) > 1e-7 for w in weights)


@settings(max_examples=300, deadline=None)
@given(WEIGHTS, RULES, U)
def test_replica_months_are_those_counted_hour_by_hour(values: list[int], rules: Rules, u: float) -> None:
    """The fleet's size over a month matches counting replicas hour by hour, cold starts included."""
    weights = around_one(values)
    assume(off_the_edge(weights, u))
    assert Curve(rules, weights).replica_months(np.array([u]))[0] == pytest.approx(by_hand(weights, rules, u))


@settings(max_examples=100, deadline=None)
@given(WEIGHTS, RULES)
def test_listed_steps_are_the_values_between_the_edges(values: list[int], rules: Rules) -> None:
    """Each listed step of the curve holds everywhere between its two edges."""
    weights = around_one(values)
    curve = Curve(rules, weights)
    lower = np.concatenate(([0.0], curve.edges[:-1]))
    for low, high, months in list(zip(lower, curve.edges, curve.months, strict=True))[:40]:
        middle = (low + high) / 2
        if off_the_edge(weights, middle):
            assert months == pytest.approx(by_hand(weights, rules, middle))


@given(WEIGHTS, RULES)
def test_no_volume_keeps_only_spares_and_the_minimum(values: list[int], rules: Rules) -> None:
    """Without traffic the fleet keeps only its spares or its minimum, whichever is more."""
    assert Curve(rules, around_one(values)).replica_months(np.zeros(1))[0] == max(rules.redundancy, rules.min_replicas)


@settings(max_examples=100, deadline=None)
@given(WEIGHTS, RULES, U, st.floats(1.0, 3.0))
def test_more_volume_never_needs_fewer_replicas_in_any_hour(values: list[int], rules: Rules, u: float, more: float) -> None:
    """More traffic never shrinks the fleet, in any hour."""
    curve = Curve(rules, around_one(values))
    assert (curve.hourly(u) <= curve.hourly(u * more)).all()


@settings(max_examples=100, deadline=None)
@given(WEIGHTS, RULES, st.floats(0.001, 200))
def test_the_long_run_slope_bounds_the_curve_from_above(values: list[int], rules: Rules, u: float) -> None:
    """The curve never rises above its linear bound, which limits how far a search for crossings must look."""
    curve = Curve(rules, around_one(values))
    assert curve.replica_months(np.array([u]))[0] <= curve.slope * u + curve.slack + 1e-9


def test_the_look_ahead_goes_round_the_clock() -> None:
    """Replicas start early enough for demand in the coming hours, also across midnight."""
    assert ahead(np.array([1.0, 2.0, 5.0, 0.0]), 1.0).tolist() == [2, 5, 5, 1]
    assert ahead(np.array([1.0, 2.0, 5.0, 0.0]), 0.9).tolist() == [1, 2, 5, 0]


def test_following_demand_costs_less_than_a_fleet_for_the_peak() -> None:
    """Autoscaling needs fewer replica-months than a fleet sized for the daily peak."""
    day = around_one([1] * 16 + [5] * 8)
    u = np.array([10.0])
    fixed = Curve(Rules(), day).replica_months(u)[0]
    follows = Curve(Rules(autoscale=True, cold_start_s=300), day).replica_months(u)[0]
    assert (fixed, follows) == (22, pytest.approx((5 * 16 + 22 * 8 + 17 * 300 / 3600) / 24))


@settings(max_examples=300, deadline=None)
@given(WEIGHTS, RULES, st.floats(0.2, 6.0), st.floats(0.0, 10.0), st.floats(0.01, 1.0))
def test_a_volume_wins_exactly_when_it_lies_in_a_window(
    values: list[int], rules: Rules, worth: float, fixed: float, where: float
) -> None:
    """Costs in replica-months, so that G = 1 and C = 1."""
    weights = around_one(values)
    curve = Curve(rules, weights)
    u = where * curve.edges[-1]
    found = crossings.solve(curve, 1.0, 1.0, fixed, worth)
    assume(len(found.windows) < 50)
    gap = fixed + by_hand(weights, rules, u) - worth * u
    assume(abs(gap) > 1e-6 and off_the_edge(weights, u))
    inside = any(above < u and (to is None or u <= to) for above, to in found.windows)
    assert inside == (gap < 0)


@settings(max_examples=200, deadline=None)
@given(WEIGHTS, RULES, st.floats(0.2, 6.0), st.floats(0.0, 10.0))
def test_windows_are_disjoint_and_ordered_and_named_by_their_ends(
    values: list[int], rules: Rules, worth: float, fixed: float
) -> None:
    """The reported first and stable break-even volumes are the ends of the winning ranges."""
    found = crossings.solve(Curve(rules, around_one(values)), 1.0, 1.0, fixed, worth)
    edges = [edge for window in found.windows for edge in window if edge is not None]
    assert edges == sorted(edges)
    if found.windows:
        assert found.first_tokens == found.windows[0][0]
        assert (found.stable_tokens is None) == (found.windows[-1][1] is not None)
        assert (found.outcome == "stable") == (found.stable_tokens == found.first_tokens)
    else:
        assert found.outcome in {"never", "beyond_capacity"}


@settings(max_examples=200, deadline=None)
@given(WEIGHTS, RULES, st.floats(1.05, 6.0), st.floats(0.0, 5.0), st.floats(1.0, 5.0))
def test_for_good_means_for_good(values: list[int], rules: Rules, margin: float, fixed: float, further: float) -> None:
    """Beyond the stable break-even, self-hosting stays cheaper at every larger volume."""
    weights = around_one(values)
    curve = Curve(rules, weights)
    worth = margin * curve.slope
    found = crossings.solve(curve, 1.0, 1.0, fixed, worth)
    assume(found.stable_tokens is not None)
    u = found.stable_tokens * further * 1.0001
    assert fixed + by_hand(weights, rules, u) < worth * u + 1e-9


@settings(max_examples=200, deadline=None)
@example(
    [1], Rules(max_replicas=15, autoscale=True, cold_start_s=0.0), [(1.1, 1.5)]
)  # crosses within a rounding of the edge
@given(WEIGHTS, RULES, st.lists(st.tuples(st.floats(0.2, 6.0), st.floats(0.0, 10.0)), min_size=1, max_size=8))
def test_vectorised_first_crossings_are_those_of_one_at_a_time(
    values: list[int], rules: Rules, draws: list[tuple[float, float]]
) -> None:
    """Solving many draws at once gives the same break-even as solving each alone."""
    curve = Curve(rules, around_one(values))
    worth, fixed = (np.array(column) for column in zip(*draws, strict=True))
    found = crossings.first_breakeven(curve, worth, fixed)
    for one, a, f in zip(found, worth, fixed, strict=True):
        first = crossings.solve(curve, 1.0, 1.0, f, a).first_tokens
        assert (first is None and math.isnan(one)) or one == pytest.approx(first, rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2), st.floats(1.05, 5.0), st.floats(0, 20), st.integers(20, 300))
def test_looking_at_every_step_agrees_with_the_closed_form(spare: int, worth: float, fixed: float, most: int) -> None:
    """A fleet that follows flat demand is a fixed one: the two ways of solving must say the same."""
    plain = closed_form(Staircase(1.0, 1.0, fixed, spare), worth, most)
    looked = crossings.solve(Curve(Rules(spare, 0, most, autoscale=True), np.ones(1)), 1.0, 1.0, fixed, worth)
    if plain.first_tokens is None or looked.first_tokens is None:
        assert plain.first_tokens == looked.first_tokens
        return
    assert looked.first_tokens == pytest.approx(plain.first_tokens)
    if looked.stable_tokens is not None and plain.stable_tokens is not None:
        assert looked.stable_tokens == pytest.approx(plain.stable_tokens)


def test_a_fleet_with_a_large_minimum_wins_where_its_minimum_is_paid_for() -> None:
    """A minimum fleet moves break-even to the volume that pays for all of its replicas."""
    found = crossings.solve(Curve(Rules(min_replicas=5, max_replicas=20), np.ones(1)), 1000.0, 1000.0, 0.0, 1.3)
    assert [(round(a), b and round(b)) for a, b in found.windows][:2] == [(3846, None)]
