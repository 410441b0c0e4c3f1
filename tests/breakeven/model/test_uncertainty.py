"""Draws have the spread that was asked for; tornado and flips say what solving again would say."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.breakeven.model.test_replica_cost import economics
from tests.breakeven.positions import position
from tokenhour.breakeven.model.cost_point import Multiples, evaluate
from tokenhour.breakeven.model.crossings import solve
from tokenhour.breakeven.model.replica_curve import Rules
from tokenhour.breakeven.model.uncertainty import draw, flips, monte_carlo, quantiles, spreads, tornado
from tokenhour.contracts.record import Interval

ENDS = {
    "api_price": (0.7, 1.05),
    "capacity": (0.9, 1.1),
    "gpu_price": (0.85, 1.25),
    "growth": (0.8, 1.3),
    "ops": (0.7, 1.5),
    "volume": (0.6, 1.5),
}
DAY = [1.0] * 16 + [3.0] * 8


def test_draws_have_the_percentiles_that_were_asked_for() -> None:
    """Random inputs hit the stated P10, median and P90, and inputs vary independently."""
    drawn = draw(ENDS, 200_000, seed=1)
    for name, (low, high) in ENDS.items():
        assert np.percentile(drawn[name], (10, 50, 90)) == pytest.approx([low, 1.0, high], rel=0.01), name
    assert abs(np.corrcoef(drawn["volume"], drawn["ops"])[0, 1]) < 0.02


def test_the_same_seed_gives_the_same_draws_and_another_does_not() -> None:
    """Results with random draws are reproducible from their seed."""
    one, same, other = (draw(ENDS, 100, seed)["volume"] for seed in (3, 3, 4))
    assert (one == same).all()
    assert (one != other).any()


def test_the_spread_of_a_measured_capacity_follows_from_its_95_percent_interval() -> None:
    """Of a log-normal: P10 lies 1.2816 sigma below the median, the interval's end 1.96."""
    spec, capacity = economics(), Interval(value=100, low=100 * math.exp(-1.96 * 0.1), high=100 * math.exp(1.96 * 0.1))
    low, high = spreads(spec, capacity, "measured")["capacity"]
    assert (low, high) == pytest.approx((math.exp(-1.2816 * 0.1), math.exp(1.2816 * 0.1)), rel=1e-4)
    assert spreads(spec, Interval(value=100), "measured")["capacity"] == (1.0, 1.0)
    assert spreads(spec, Interval(value=100, low=70, high=130), "assumed")["capacity"] == (0.7, 1.3)
    said = economics(uncertainty={"capacity": {"p10": 0.5, "p90": 2}})
    assert spreads(said, capacity, "measured")["capacity"] == (0.5, 2)


def test_the_win_probability_is_that_of_counting() -> None:
    """The probability that self-hosting is cheaper is the share of draws in which it wins."""
    at = position()
    drawn = draw(ENDS, 2000, seed=0)
    found = monte_carlo(at, drawn, 0)
    wins = 0
    for i in range(2000):
        by = {name: drawn[name][i] for name in ENDS}
        replicas = math.ceil(at.tokens * by["volume"] / (at.replica_tokens * by["capacity"]))
        own = 1000 * by["gpu_price"] * replicas
        wins += own < at.api_usd_per_token * by["api_price"] * at.tokens * by["volume"]
    assert found.win_probability == pytest.approx(wins / 2000)
    assert sum(found.histogram_counts) == round(2000 * (1 - found.never_probability))
    assert len(found.histogram_edges_tokens) == len(found.histogram_counts) + 1


def test_without_spread_every_percentile_is_the_figure_itself() -> None:
    """With no uncertainty in any input, every percentile equals the plain break-even."""
    at = position(DAY, Rules(autoscale=True, cold_start_s=300), ops_usd=100)
    drawn = draw(dict.fromkeys(ENDS, (1.0, 1.0)), 200, seed=0)
    found = monte_carlo(at, drawn, 0)
    crossed = solve(at.curve, at.replica_usd, at.replica_tokens, at.fixed_usd, at.api_usd_per_token)
    q = found.first_tokens_per_month
    assert (q.p10, q.p50, q.p90) == pytest.approx((crossed.first_tokens,) * 3)
    assert found.win_probability in {0.0, 1.0}


def test_a_share_of_draws_without_break_even_makes_its_percentile_never() -> None:
    """A percentile that falls among draws without break-even is reported as never."""
    values = np.array([1.0, 2.0, np.inf, np.inf])
    found = quantiles(values)
    assert (found.p10, found.p50, found.p90) == (1.0, 2.0, None)


def test_each_tornado_row_is_what_moving_that_input_alone_comes_to() -> None:
    """Each tornado row shows the saving when only that input moves, widest effect first."""
    at = position(ops_usd=200)
    rows = {row.name: row for row in tornado(at, ENDS)}
    dearer = dataclasses.replace(at, api_usd_per_token=at.api_usd_per_token * 1.05)
    row = rows["api_price"]
    assert row.high_saving_usd_per_month == pytest.approx(
        dearer.api_usd_per_token * dearer.tokens - dearer.self_host_usd(dearer.tokens)
    )
    assert row.high_first_tokens_per_month == pytest.approx(
        solve(at.curve, at.replica_usd, at.replica_tokens, at.fixed_usd, dearer.api_usd_per_token).first_tokens
    )
    widths = [abs(r.high_saving_usd_per_month - r.low_saving_usd_per_month) for r in tornado(at, ENDS)]
    assert widths == sorted(widths, reverse=True)
    assert set(rows) == set(ENDS) - {"growth"}


@settings(max_examples=60, deadline=None)
@given(
    st.floats(100, 3000),
    st.floats(0, 2000),
    st.floats(0, 0.3),
    st.floats(0.3e-6, 5e-6),
    st.floats(0.2e9, 2e10),
    st.booleans(),
)
def test_a_flip_turns_the_saving_and_stopping_short_of_it_does_not(
    machine: float, ops: float, share: float, price: float, tokens: float, follows: bool
) -> None:
    """A flip value really flips the verdict, nothing short of it does, and the nearest flip comes first."""
    at = position(
        DAY,
        Rules(autoscale=follows, cold_start_s=120),
        machine_usd=machine,
        ops_usd=ops,
        ops_share=share,
        api_usd_per_token=price,
        tokens=tokens,
    )
    crossed = solve(at.curve, at.replica_usd, at.replica_tokens, at.fixed_usd, price)
    edges = [edge for window in crossed.windows for edge in window if edge]
    assume(len(crossed.windows) < 50 and all(b > 1.001 * a for a, b in pairwise(edges)))
    now = at.api_usd_per_token * tokens - at.self_host_usd(tokens)
    assume(abs(now) > 1e-3 * at.api_usd_per_token * tokens)

    def saving(name: str, multiple: float) -> float:
        one = {field: np.ones(1) for field in Multiples._fields} | {name: np.array([multiple])}
        return float(evaluate(at, Multiples(**one)).saving_usd[0])

    for flip in flips(at, crossed.windows):
        past, short = (1.0001, 0.9999) if flip.multiple > 1 else (0.9999, 1.0001)
        assert (saving(flip.name, flip.multiple * past) > 0) != (now > 0), flip
        assert (saving(flip.name, flip.multiple * short) > 0) == (now > 0), flip
    distances = [abs(math.log(flip.multiple)) for flip in flips(at, crossed.windows)]
    assert distances == sorted(distances)
