"""The search brackets a known capacity with few probes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.search import CEILING, Bracket, next_rate, window_s
from contracts.bench_spec import SearchSpec, SloSpec

SLO = SloSpec(percentile=90, ttft_s=1)


def search(capacity, saturated, spec):
    found, rates = Bracket(saturated), []
    while (step := next_rate(found, spec)) is not None:
        rates.append(step.rate_rps)
        found = found.add(step.rate_rps, passed=step.rate_rps <= capacity, confirms=step.confirms)
    return found, rates


@given(st.floats(0.5, 1.0), st.floats(0.1, 1000))
def test_the_capacity_is_bracketed_within_the_precision(share, saturated):
    spec = SearchSpec(max_probes=12, precision=0.1)
    found, _ = search(share * saturated, saturated, spec)
    low = found.highest_passing_rps
    high = found.lowest_failing_rps or CEILING * saturated
    assert low <= share * saturated <= high * (1 + 1e-9)
    assert high <= low * 1.1 * (1 + 1e-9)


@given(st.floats(0.01, 1.05), st.integers(2, 8))
def test_never_more_probes_than_allowed_and_no_rate_twice(share, probes):
    _, rates = search(share, 1.0, SearchSpec(max_probes=probes, precision=0.01))
    assert len(rates) <= probes
    assert len(set(rates)) == len(rates)
    assert max(rates) <= CEILING


def test_when_nothing_passes_the_rates_go_down():
    found, rates = search(0.0, 10.0, SearchSpec(max_probes=4))
    assert found.highest_passing_rps is None
    assert rates == sorted(rates, reverse=True)


def test_a_server_that_completed_nothing_is_not_searched():
    assert next_rate(Bracket(0.0), SearchSpec()) is None


def test_the_window_gives_the_percentile_its_samples_within_its_limits():
    spec = SearchSpec(probe_s=10, max_probe_s=40)
    assert window_s(100.0, spec, SLO) == 10
    assert window_s(4.0, spec, SLO) == pytest.approx(64 * 1.15 / 4)
    assert window_s(0.1, spec, SLO) == 40
