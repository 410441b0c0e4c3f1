"""Interruptions against simulating them, and what makes spot not pay."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenhour.breakeven.extras.spot import best_interval_h, overhead, price_ratio, serving_replicas, serving_saved_share
from tokenhour.contracts.errors import InputError


def test_the_overhead_is_what_a_simulated_job_loses() -> None:
    """Interruptions fall evenly within a checkpoint interval: each loses half of it and a restart."""
    rate, interval, restart, cost = 0.05, 1.0, 0.2, 0.02
    rng = np.random.default_rng(0)
    hours = 200_000.0
    times = np.cumsum(rng.exponential(1 / rate, int(hours * rate * 1.2)))
    times = times[times < hours]
    lost = (times % interval).sum() + restart * len(times) + cost * hours / interval
    assert overhead(rate, interval, restart, cost) == pytest.approx(lost / hours, rel=0.03)


@given(st.floats(0.001, 1), st.floats(0.001, 0.5))
def test_the_best_interval_is_better_than_its_neighbours(rate: float, cost: float) -> None:
    """The recommended checkpoint interval loses less time than slightly shorter or longer ones."""
    best = best_interval_h(rate, cost)
    assert (
        overhead(rate, best, 0.1, cost) <= min(overhead(rate, best * f, 0.1, cost) for f in (0.8, 0.99, 1.01, 1.25)) + 1e-12
    )


def test_where_nothing_interrupts_or_checkpoints_are_free_there_is_no_best_interval() -> None:
    """No interval is recommended when there is nothing to trade off."""
    assert best_interval_h(0, 0.1) is None
    assert best_interval_h(0.1, 0) is None


def test_interruptions_eat_the_discount_up() -> None:
    """Lost work raises the effective spot price, up to the point where spot never finishes."""
    assert price_ratio(0.6, 0.0) == pytest.approx(0.4)
    assert price_ratio(0.6, 0.6) == pytest.approx(1.0)
    assert price_ratio(0.9, 1.0) is None
    assert price_ratio(0.9, overhead(2.0, 1.0, 0.5)) is None


def test_serving_needs_more_replicas_than_it_uses() -> None:
    """n_spot = ceil(n / (1 - u))."""
    assert serving_replicas(9, 0.1) == 10
    assert serving_replicas(10, 0.1) == math.ceil(10 / 0.9)
    assert serving_replicas(4, 0.0) == 4


def test_a_fallback_eats_into_what_serving_saves() -> None:
    """Falling back to on-demand machines lowers the saving from spot, and can turn it into a loss."""
    without, with_it = (serving_saved_share(9, 0.1, 0.6, share) for share in (0.0, 0.1))
    assert without == pytest.approx(0.6)
    assert with_it == pytest.approx(0.5)
    assert serving_saved_share(0, 0.1, 0.6, 0.1) == 0.0
    assert serving_saved_share(9, 0.1, 0.05, 0.2) < 0


def test_an_interval_of_nothing_is_refused() -> None:
    """A checkpoint interval of zero is rejected rather than divided by."""
    with pytest.raises(InputError, match="cannot be"):
        overhead(0.1, 0, 0.1)
