"""The hybrid optimum on hourly demand against trying every number of replicas."""

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenhour.breakeven.model.hybrid import Overflow, optimum

WEIGHTS = st.lists(st.integers(0, 9), min_size=1, max_size=24).filter(any)


def by_hand(weights: Iterable[float], u: float, replica: float, fixed: float, api: float, k: int, spare: int) -> float:
    """F 1[k>0] + G (k + r 1[k>0]) + p sum_t max(0, D_t - k c)."""
    over = sum(max(0.0, w - k / u) for w in weights) / len(weights)
    return (fixed + replica * (k + spare) if k else 0.0) + api * over


@settings(max_examples=300, deadline=None)
@given(
    WEIGHTS,
    st.floats(0.01, 20),
    st.floats(0, 100),
    st.floats(0, 500),
    st.floats(0, 3000),
    st.integers(0, 2),
    st.integers(1, 200),
)
def test_the_hybrid_optimum_is_that_of_trying_every_number_of_replicas(
    values: list[int], u: float, replica: float, fixed: float, api: float, spare: int, most: int
) -> None:
    """The hybrid of replicas and API overflow costs as little as the best fleet size found by trying all."""
    weights = np.array(values) / np.mean(values)
    best = optimum(weights, u, replica, fixed, api, redundancy=spare, max_replicas=most)
    top = min(math.ceil(u * weights.max()), most)
    assert best.usd_per_month == pytest.approx(
        min(by_hand(weights, u, replica, fixed, api, k, spare) for k in range(top + 1)), abs=1e-6
    )
    assert best.usd_per_month == pytest.approx(by_hand(weights, u, replica, fixed, api, best.base_replicas, spare), abs=1e-6)


@given(WEIGHTS, st.floats(0.01, 20), st.integers(0, 50))
def test_overflow_is_what_the_replicas_leave_over(values: list[int], u: float, k: int) -> None:
    """The overflow sent to the API is exactly the demand that the replicas cannot serve."""
    weights = np.array(values) / np.mean(values)
    assert Overflow(weights, u)(k) == pytest.approx(np.maximum(0.0, weights - k / u).mean(), abs=1e-9)


def test_a_peaky_day_keeps_a_base_and_sends_the_peak_out() -> None:
    """With a short daily peak, a base fleet plus API overflow beats buying everything from the API."""
    weights = np.array([1.0] * 20 + [10.0] * 4) / 2.5
    best = optimum(weights, u=10.0, replica_usd=100, fixed_usd=0, api_usd=1500)
    assert 0 < best.base_replicas < 40
    assert 0 < best.overflow_share < 1
    assert best.usd_per_month < 1500


def test_no_volume_costs_nothing() -> None:
    """Without traffic the hybrid runs no replicas, so it costs nothing."""
    assert optimum(np.ones(1), 0.0, 100, 50, 0.0).usd_per_month == 0
