"""The search brackets a known capacity with few probes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.search import CEILING, Bracket, next_rate, window_s
from contracts.bench_spec import BenchSpec, SearchSpec, SloSpec
from tests.bench import simulated

SLO = SloSpec(percentile=90, ttft_s=1)
SPEC = BenchSpec.model_validate(
    {
        "workload": {"prompt": {"mean_tokens": 10}, "output": {"mean_tokens": 8}},
        "slo": {"percentile": 90, "ttft_s": 0.6},
        "search": {
            "saturation_s": 60, "probe_s": 600, "max_probe_s": 1800, "warmup_s": 5, "max_probes": 12, "precision": 0.05
        },
    }
)  # fmt: skip


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


def test_a_simulated_engines_capacity_is_found_for_half_of_what_a_sweep_costs():
    """One seed here; `make bench-self` runs 20."""
    engine = simulated.Engine()
    known = simulated.capacity_of(engine, SPEC, 6000.0)
    found, points = simulated.search(engine, SPEC, 1)
    cost = engine.spent_s
    assert found.highest_passing_rps == pytest.approx(known, rel=0.05)
    assert found.lowest_failing_rps <= found.highest_passing_rps * 1.05 * (1 + 1e-9)
    assert cost <= 0.5 * simulated.sweep_cost_s(engine, SPEC, 1)
    assert any(p.stopped_early for p in points)


def confirmed(outcomes, confirm=1):
    """Walk through a search in which rates up to 1.0 pass at first; `outcomes` are those of the repeats."""
    spec = SearchSpec(max_probes=20, precision=0.1, confirm=confirm)
    found, repeats, left = Bracket(1.2), [], list(outcomes)
    while (step := next_rate(found, spec)) is not None:
        passed = left.pop(0) if step.confirms and left else step.rate_rps <= 1.0
        repeats += [step.rate_rps] if step.confirms else []
        found = found.add(step.rate_rps, passed=passed, confirms=step.confirms)
    return found, repeats


def test_the_passing_end_of_the_bracket_is_repeated_and_stands_when_it_passes_again():
    found, repeats = confirmed([True])
    assert repeats == [found.highest_passing_rps]
    assert found.highest_passing_rps <= 1.0


def test_a_repeat_that_fails_is_repeated_once_more_and_outvoted():
    found, repeats = confirmed([False, True])
    assert repeats == [found.highest_passing_rps] * 2


def test_repeats_that_fail_twice_send_the_search_below():
    found, repeats = confirmed([False, False])
    assert found.lowest_failing_rps == repeats[0] == repeats[1]
    assert found.highest_passing_rps < repeats[0]
