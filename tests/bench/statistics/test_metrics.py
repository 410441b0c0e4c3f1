"""Latency counts from the scheduled arrival, failures are infinite, throughput is what was emitted inside the window."""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.rows import row
from tokenhour.bench.statistics import metrics

LATENCIES = st.lists(st.floats(0.001, 100), min_size=1, max_size=200)


def test_waiting_before_sending_counts_into_ttft() -> None:
    """Latency runs from the scheduled arrival, so a late generator cannot flatter the server."""
    found = metrics.latencies([row(lag=2.0, ttft=0.5)])
    assert found.ttft[0] == pytest.approx(2.5)
    assert found.ttft_from_sent[0] == pytest.approx(0.5)
    assert found.e2e[0] - found.e2e_from_sent[0] == pytest.approx(2.0)
    assert found.lag[0] == pytest.approx(2.0)


def test_opening_a_connection_is_no_lag_of_the_client() -> None:
    """Taken up 10 ms late; TCP and TLS took two seconds more, which count into TTFT all the same."""
    found = metrics.latencies([replace(row(lag=2.0, ttft=0.5), taken_s=0.01)])
    assert found.lag[0] == pytest.approx(0.01)
    assert found.ttft[0] == pytest.approx(2.5)


def test_tpot_leaves_out_the_first_chunk_and_is_undefined_for_one() -> None:
    """Time per output token is about decoding; an answer of one chunk tells nothing of it."""
    assert metrics.tpot(row(tokens=5, gap=0.02)) == pytest.approx(0.02)
    assert metrics.tpot(row(tokens=1)) is None


def test_successes_of_a_single_chunk_are_counted_where_tpot_leaves_them_out() -> None:
    """The reader can see how many answers the TPOT figures do not cover."""
    found = metrics.latencies([row(0), row(1, tokens=1), row(2, tokens=1), row(3, outcome="timeout")])
    assert (len(found.tpot), found.single_chunk, found.failures) == (1, 2, 1)


@given(LATENCIES, st.integers(1, 50))
def test_a_failure_never_improves_a_tail(values: list[float], failures: int) -> None:
    """Refusing requests must not make a server look faster."""
    clean = metrics.percentile_with_failures(np.array(values), 0, 90)
    assert metrics.percentile_with_failures(np.array(values), failures, 90) >= clean


@given(LATENCIES, st.sampled_from([50.0, 90.0, 99.0]))
def test_at_least_that_share_of_the_samples_is_no_slower_than_the_percentile(values: list[float], percentile: float) -> None:
    """The percentile is an observed value and never lies below its definition."""
    found = metrics.percentile_with_failures(np.array(values), 0, percentile)
    assert np.mean(np.array(values) <= found) >= percentile / 100


def test_more_failures_than_the_tail_holds_make_it_infinite() -> None:
    """With 20% failures there is no p90, and the record says unbounded."""
    assert metrics.percentile_with_failures(np.ones(80), 20, 90) == math.inf
    assert metrics.percentiles(np.ones(80), 20, 90).unbounded


@pytest.mark.parametrize(("percentile", "needed"), [(90.0, 64), (99.0, 662)])
def test_below_the_stated_number_of_samples_a_percentile_is_not_estimable(percentile: float, needed: int) -> None:
    """Too few samples give no figure, so that no tail is claimed from a handful of requests."""
    assert metrics.percentiles(np.ones(needed - 1), 0, percentile).at_slo_s is None
    assert metrics.percentiles(np.ones(needed), 0, percentile).at_slo_s == 1.0


def test_tokens_of_a_request_that_straddles_the_window_count_only_inside() -> None:
    """Throughput counts what came inside the window, neither whole requests nor none."""
    times, tokens = metrics.emitted([row(0.0, ttft=0.95, gap=0.1, tokens=5)], 1.0, 1.2)
    assert tokens.sum() == 2
    assert all((times >= 1.0) & (times < 1.2))


@given(st.lists(st.floats(0, 50), max_size=40), st.floats(1, 25), st.floats(26, 49))
def test_windows_side_by_side_hold_all_tokens_once(starts: list[float], middle: float, end: float) -> None:
    """No token is lost or counted twice at a window's edge."""
    rows = [row(s) for s in starts]
    total = sum(metrics.emitted(rows, a, b)[1].sum() for a, b in ((0, middle), (middle, end), (end, 1000)))
    assert total == 5 * len(rows)


def test_the_interval_of_a_steady_rate_is_narrow_and_covers_it() -> None:
    """Regular output leaves no doubt about its rate."""
    times = np.linspace(0, 100, 10_000, endpoint=False)
    found = metrics.rate_interval(times, np.ones(10_000), 0, 100)
    assert found.value == pytest.approx(100)
    assert found.high - found.low < 1


def test_intervals_cover_the_true_rate_of_poisson_emissions() -> None:
    """Nearly all intervals hold the true rate, but not all: they are not needlessly wide."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        times = np.sort(rng.uniform(0, 100, rng.poisson(3000)))
        found = metrics.rate_interval(times, np.ones_like(times), 0, 100)
        covered += found.low <= 30 <= found.high
    assert 180 <= covered <= 199


def test_a_queue_that_grows_is_not_stable_and_one_that_fluctuates_is() -> None:
    """A rate counts as sustainable only if the backlog does not grow beyond chance."""
    rng = np.random.default_rng(0)
    steady = [row(t, ttft=0.5) for t in np.cumsum(rng.exponential(0.1, 300))]
    assert metrics.is_stable(steady, 2, 20)
    falling_behind = [row(t, ttft=0.5 + 0.3 * t) for t in np.cumsum(rng.exponential(0.1, 300))]
    assert not metrics.is_stable(falling_behind, 2, 20)


class Stay(NamedTuple):
    """All that stability looks at of a request: half a million of them are made here."""

    scheduled_s: float
    last_token_s: float


@pytest.mark.parametrize(("window_s", "stay_s"), [(9, 2.8), (9, 4.3), (6, 3.7), (30, 2.8)])
def test_a_short_window_is_no_growing_queue_by_chance(window_s: int, stay_s: float) -> None:
    """INT8 on an H100: at 28.6 requests/s, each 2.8 s there, one window of 9 s in seven was called a growing queue."""
    rng = np.random.default_rng(7)
    rate, runs, grown = 28.6, 400, 0
    for _ in range(runs):
        times = np.sort(rng.uniform(0, window_s + 3 * stay_s, rng.poisson(rate * (window_s + 3 * stay_s))))
        rows = [Stay(t, t + stay_s) for t in times]
        grown += not metrics.is_stable(rows, 2 * stay_s, 2 * stay_s + window_s)
    assert grown / runs < 0.05


@pytest.mark.parametrize(("window_s", "stay_s"), [(9, 2.8), (9, 4.3), (20, 60), (60, 1.0)])
def test_the_spread_of_the_growth_is_that_of_simulated_windows(window_s: int, stay_s: float) -> None:
    """The formula behind the stability test matches what simulation shows by chance."""
    rng, rate, grown = np.random.default_rng(11), 20.0, []
    for _ in range(400):
        times = np.sort(rng.uniform(0, window_s + 2 * stay_s, rng.poisson(rate * (window_s + 2 * stay_s))))
        at = np.linspace(stay_s, stay_s + window_s, 300)
        backlog = np.searchsorted(times, at, "right") - np.searchsorted(times + stay_s, at, "right")
        thirds = backlog.reshape(3, 100).mean(axis=1)
        grown.append(1.5 * (thirds[2] - thirds[0]))
    assert metrics.growth_spread(rate * stay_s, stay_s, window_s) == pytest.approx(np.std(grown), rel=0.12)


@pytest.mark.parametrize(
    ("rate", "window_s", "stay_s", "undone", "seen"),
    [(28.6, 20, 2.8, 0.125, 0.95), (28.6, 60, 2.8, 0.125, 1.0), (5.0, 20, 60.0, 0.5, 0.8), (3.7, 60, 10.0, 0.3, 0.95)],
)
def test_an_engine_that_leaves_much_undone_falls_behind(
    rate: float, window_s: int, stay_s: float, undone: float, seen: float
) -> None:
    """The stability test has the power to notice an overloaded engine in windows of real length."""
    rng, runs, found = np.random.default_rng(3), 100, 0
    for _ in range(runs):
        times = np.cumsum(rng.exponential(1 / rate, int(rate * (window_s + 3 * stay_s))))
        began = 2 * stay_s  # with the window the engine gets slower
        ends = times + stay_s
        ends += np.clip(ends - began, 0, None) * undone / (1 - undone)
        rows = [Stay(t, end) for t, end in zip(times, ends, strict=True)]
        found += not metrics.is_stable(rows, began, began + window_s)
    assert found / runs >= seen
