"""All crossings of the staircase, in closed form, against brute force."""

import math
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tokenhour.breakeven.model.crossings_closed_form import LISTED, Staircase, solve
from tokenhour.contracts.errors import InputError

MONEY = st.floats(min_value=1.0, max_value=1e5)
TOKENS = st.floats(min_value=10.0, max_value=1e6)
FIXED = st.floats(min_value=0.0, max_value=1e5)


def test_the_example_of_the_design_wins_in_three_windows_and_then_for_good() -> None:
    """economics.md, Crossings: F=0, gamma=1000, C=1000, p=1.3."""
    found = solve(Staircase(1000, 1000), 1.3)
    closed = [(round(a), b) for a, b in found.windows]
    assert closed == [(769, 1000), (1538, 2000), (2308, 3000), (3077, None)]
    assert (found.first_tokens, found.stable_tokens) == pytest.approx((1000 / 1.3, 4000 / 1.3))
    assert found.outcome == "first"


def test_a_replica_that_costs_what_the_api_takes_for_its_tokens_never_wins() -> None:
    """Self-hosting never wins when even a full replica costs as much as the API."""
    assert solve(Staircase(1300, 1000), 1.3).outcome == "never"
    assert solve(Staircase(1299.99, 1000), 1.3).outcome != "never"


def test_a_crossing_beyond_the_fleet_limit_is_told() -> None:
    """A break-even that needs more replicas than allowed is reported as beyond capacity, not as never."""
    assert solve(Staircase(1000, 1000, fixed_usd=10_000), 1.1, max_replicas=50).outcome == "beyond_capacity"
    assert solve(Staircase(1000, 1000, fixed_usd=10_000), 1.1, max_replicas=200).outcome != "beyond_capacity"


@given(MONEY, TOKENS, FIXED, st.integers(0, 3), st.floats(min_value=1.01, max_value=50.0))
def test_windows_are_disjoint_ordered_and_end_open(
    gamma: float, capacity: float, fixed: float, spare: int, factor: float
) -> None:
    """The winning volumes come as separate ranges in order, and the last one has no upper end."""
    found = solve(Staircase(gamma, capacity, fixed, spare), factor * gamma / capacity)
    assert found.windows[-1][1] is None
    edges = [edge for window in found.windows for edge in window if edge is not None]
    assert edges == sorted(edges)
    assert found.first_tokens == found.windows[0][0]


@settings(max_examples=300)
@given(
    MONEY,
    TOKENS,
    FIXED,
    st.integers(0, 3),
    st.floats(min_value=0.2, max_value=20.0),
    st.floats(min_value=0.001, max_value=60.0),
)
def test_a_volume_wins_exactly_when_it_lies_in_a_window(
    gamma: float, capacity: float, fixed: float, spare: int, factor: float, steps: float
) -> None:
    """Self-hosting is cheaper inside the listed ranges and nowhere else."""
    stairs, price = Staircase(gamma, capacity, fixed, spare), factor * gamma / capacity
    volume = steps * capacity
    gap = stairs.cost_usd(volume) - price * volume
    assume(abs(gap) > 1e-6 * price * volume)
    found = solve(stairs, price)
    listed = found.windows[:-1]
    last_listed = listed[-1][1] if listed else 0
    assume(found.stable_tokens is None or volume > found.stable_tokens or len(listed) < 49 or volume < last_listed)
    inside = any(above < volume and (to is None or volume <= to) for above, to in found.windows)
    assert inside == (gap < 0)


@given(
    MONEY,
    TOKENS,
    FIXED,
    st.integers(0, 3),
    st.floats(min_value=1.01, max_value=20),
    st.floats(min_value=0.01, max_value=100),
)
def test_scaling_all_money_leaves_break_even_where_it_is(
    gamma: float, capacity: float, fixed: float, spare: int, factor: float, k: float
) -> None:
    """Break-even does not depend on the currency, because scaling every price leaves it in place."""
    price = factor * gamma / capacity
    one = solve(Staircase(gamma, capacity, fixed, spare), price)
    other = solve(Staircase(gamma * k, capacity, fixed * k, spare), price * k)
    # A crossing on a step's edge may fall to either side by rounding; it then moves by nothing that matters.
    assert other.first_tokens == pytest.approx(one.first_tokens, rel=1e-6) or _on_an_edge(
        one.first_tokens, other.first_tokens, capacity
    )


def _on_an_edge(one: float, other: float, capacity: float) -> bool:
    return abs(one / capacity - round(one / capacity)) < 1e-6 or abs(other / capacity - round(other / capacity)) < 1e-6


@given(
    MONEY, TOKENS, FIXED, st.integers(0, 2), st.floats(min_value=1.01, max_value=10), st.floats(min_value=1.0, max_value=3.0)
)
def test_a_dearer_api_never_moves_the_first_crossing_up(
    gamma: float, capacity: float, fixed: float, spare: int, factor: float, dearer: float
) -> None:
    """A higher API price can only bring break-even to a lower volume."""
    stairs, price = Staircase(gamma, capacity, fixed, spare), factor * gamma / capacity
    assert solve(stairs, price * dearer).first_tokens <= solve(stairs, price).first_tokens * (1 + 1e-9)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [("replica_tokens", (1000, 0)), ("replica_usd", (-1, 1)), ("fixed_usd", (1, 1, -5)), ("replica_usd", (math.nan, 1))],
)
def test_figures_that_cannot_be_are_refused_by_name(field: str, arguments: tuple[float, ...]) -> None:
    """Impossible figures are rejected with the name of the field to correct."""
    with pytest.raises(InputError) as caught:
        Staircase(*arguments)
    assert caught.value.where == field


@pytest.mark.parametrize(
    ("fixed", "price"),
    [(1e300, 1.3), (1e15, 1.00000000001), (1e6, 1.0000000000000002), (0.0, 1.0000000000000002), (1e3, 1e305), (1e308, 1.3)],
)
def test_costs_at_the_end_of_what_doubles_can_tell_apart_give_an_answer(fixed: float, price: float) -> None:
    """They used to be counted up to, one replica at a time."""
    found = solve(Staircase(1000, 1000, fixed), price)
    assert found.outcome in {"first", "stable", "beyond_capacity"}
    assert found.first_tokens is None or 0 < found.first_tokens < math.inf
    assert len(found.windows) <= LISTED
    if fixed >= 1e300:
        assert found.outcome == "beyond_capacity"


@given(MONEY, TOKENS, st.floats(0, 1e12), st.floats(min_value=1 + 1e-13, max_value=1.01))
def test_the_first_step_is_the_least_whose_window_is_not_empty(
    gamma: float, capacity: float, fixed: float, factor: float
) -> None:
    """The reported number of replicas at break-even really has a volume at which it wins."""
    stairs, price = Staircase(gamma, capacity, fixed), factor * gamma / capacity
    found = solve(stairs, price)
    if found.first_replicas is None:
        return
    n = found.first_replicas
    assert max((fixed + gamma * n) / price, (n - 1) * capacity) < n * capacity


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"fixed_usd": -0.5}, "fixed_usd"),
        ({"fixed_usd": math.nan}, "fixed_usd"),
        ({"redundancy": -1}, "redundancy"),
        ({"replica_usd": 0.0}, "replica_usd"),
        ({"replica_tokens": math.inf}, "replica_tokens"),
    ],
)
def test_a_staircase_that_cannot_be_is_refused_by_the_name_of_its_value(changes: dict[str, Any], name: str) -> None:
    """Each impossible value is rejected by name and with a remedy."""
    with pytest.raises(InputError) as caught:
        Staircase(**{"replica_usd": 1000.0, "replica_tokens": 1000.0, **changes})
    assert caught.value.where == name
    assert caught.value.remedy
