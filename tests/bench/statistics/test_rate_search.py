"""The search brackets a known capacity with few probes."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import simulated
from tokenhour.bench.statistics.rate_search import (
    CEILING,
    STRONG,
    Bracket,
    NextProbe,
    check_searchable,
    excess_of,
    next_rate,
    window_s,
)
from tokenhour.contracts.config.bench import ArrivalSpec, BenchSpec, SearchSpec, SloSpec
from tokenhour.contracts.errors import InputError

SLO = SloSpec(percentile=90, ttft_s=1)
SPEC = BenchSpec.model_validate(
    {
        "workload": {"prompt": {"mean_tokens": 10}, "output": {"mean_tokens": 8}},
        "slo": {"percentile": 90, "ttft_s": 0.6},
        "search": {
            "saturation_s": 60, "probe_s": 2400, "max_probe_s": 2400, "warmup_s": 5, "max_probes": 12, "precision": 0.05
        },
    }
)  # fmt: skip


def search(capacity: float, saturated: float, spec: SearchSpec) -> tuple[Bracket, list[float]]:
    """Search a server whose probes pass up to the capacity."""
    found, rates = Bracket(saturated), []
    while (step := next_rate(found, spec)) is not None:
        rates.append(step.rate_rps)
        found = found.add(step.rate_rps, passed=step.rate_rps <= capacity)
    return found, rates


@given(st.floats(0.5, 1.0), st.floats(0.1, 1000))
def test_the_capacity_is_bracketed_within_the_precision(share: float, saturated: float) -> None:
    """The ends lie around the capacity, no further apart than the precision asked for."""
    spec = SearchSpec(max_probes=12, precision=0.1)
    found, _ = search(share * saturated, saturated, spec)
    low = found.highest_passing_rps
    high = found.lowest_failing_rps or CEILING * saturated
    assert low <= share * saturated <= high * (1 + 1e-9)
    assert high <= low * 1.1 * (1 + 1e-9)


@given(st.floats(0.01, 1.05), st.integers(2, 8))
def test_never_more_probes_than_allowed_and_no_rate_twice(share: float, probes: int) -> None:
    """A search keeps its budget and spends no probe on a rate that it knows."""
    _, rates = search(share, 1.0, SearchSpec(max_probes=probes, precision=0.01))
    assert len(rates) <= probes
    assert len(set(rates)) == len(rates)
    assert max(rates) <= CEILING


def test_when_nothing_passes_the_rates_go_down() -> None:
    """A server that misses the SLO at every rate has no capacity claimed."""
    found, rates = search(0.0, 10.0, SearchSpec(max_probes=4))
    assert found.highest_passing_rps is None
    assert rates == sorted(rates, reverse=True)


def test_a_server_that_completed_nothing_is_not_searched() -> None:
    """Without a saturated rate there is no rate to start from."""
    assert next_rate(Bracket(0.0), SearchSpec()) is None


def test_the_window_gives_the_percentile_its_samples_within_its_limits() -> None:
    """Slow rates get longer windows, up to max_probe_s."""
    spec = SearchSpec(probe_s=10, max_probe_s=40)
    assert window_s(100.0, spec, SLO) == 10
    assert window_s(4.0, spec, SLO) == pytest.approx(64 * 1.15 / 4)
    assert window_s(0.1, spec, SLO) == 40


@pytest.mark.parametrize(("cycle_s", "length_s"), [(2.0, 20.0), (7.0, 21.0), (15.0, 30.0), (30.0, 30.0), (0.3, 20.1)])
def test_a_window_holds_whole_cycles_of_the_arrivals(cycle_s: float, length_s: float) -> None:
    """A part of a cycle would offer another mean rate than the one stated."""
    spec = SearchSpec(probe_s=20, max_probe_s=40)
    assert window_s(100.0, spec, SLO, cycle_s) == pytest.approx(length_s)


def test_the_last_whole_cycle_is_the_longest_window() -> None:
    """The upper limit is rounded down to whole cycles."""
    assert window_s(0.1, SearchSpec(probe_s=20, max_probe_s=40), SLO, 15.0) == pytest.approx(30)


def test_a_closed_loop_is_neither_searched_nor_swept() -> None:
    """The message names the field, since a number of users is no rate that can be varied."""
    closed = SPEC.model_copy(update={"arrivals": ArrivalSpec(process="closed", concurrency=(4,))})
    with pytest.raises(InputError, match="a closed loop has no rate") as caught:
        check_searchable(closed, "search")
    assert caught.value.where == "arrivals.process"
    check_searchable(SPEC, "search")


def test_a_simulated_engines_capacity_is_found_for_half_of_what_a_sweep_costs() -> None:
    """One seed here; `make bench-self` runs 40. The sweep is one of ten whole windows."""
    engine = simulated.Engine()
    known = simulated.CAPACITY
    found, points = simulated.search(engine, SPEC, 1)
    cost = engine.spent_s
    assert found.highest_passing_rps == pytest.approx(known, rel=0.05)
    assert found.lowest_failing_rps <= found.highest_passing_rps * 1.05 * (1 + 1e-9)
    assert cost <= 0.5 * simulated.sweep_cost_s(engine, SPEC, 1)
    assert any(p.stopped_early for p in points)


def walked(outcomes: Callable[[NextProbe, int], float], confirm: int = 0) -> tuple[Bracket, list[NextProbe]]:
    """Search where rates up to 1.0 pass by much, but for the outcomes (missed share of 10 %) that `outcomes` gives."""
    spec = SearchSpec(max_probes=20, precision=0.1, confirm=confirm)
    found = Bracket(1.2)
    steps: list[NextProbe] = []
    while (step := next_rate(found, spec)) is not None:
        missed = outcomes(step, len(steps))
        steps.append(step)
        found = found.add(step.rate_rps, passed=missed <= 0.1, missed=missed)
    return found, steps


def smooth(rate: float) -> float:
    """Return the share that misses where the capacity is 1.0 and a tenth more load doubles the misses."""
    return 0.1 * rate**7.3


def test_the_ends_of_the_bracket_lie_around_the_capacity_that_all_probes_tell() -> None:
    """All outcomes together place the bracket, so that four probes are enough."""
    found, steps = walked(lambda step, _: smooth(step.rate_rps))
    assert found.capacity() == pytest.approx(1.0, rel=0.01)
    assert found.highest_passing_rps == pytest.approx(1 / 1.1**0.5, rel=0.03)
    assert found.lowest_failing_rps <= found.highest_passing_rps * 1.1 * (1 + 1e-9)
    assert len(steps) <= 4
    assert not any(step.confirms for step in steps)


def test_an_outcome_that_the_others_contradict_is_repeated_and_pooled() -> None:
    """The probe just below the capacity fails by chance the first time."""

    def outcome(step: NextProbe, number: int) -> float:
        unlucky = number == 2
        return 0.115 if unlucky else smooth(step.rate_rps)

    found, steps = walked(outcome)
    assert steps[2].rate_rps < 1.0
    assert (steps[3].rate_rps, steps[3].confirms) == (steps[2].rate_rps, True)
    assert found.highest_passing_rps == steps[2].rate_rps


def test_a_clear_outcome_is_not_overruled_by_the_others() -> None:
    """A cliff at 0.97: below it nothing misses, above it half does."""
    found, _ = walked(lambda step, _: 0.0 if step.rate_rps <= 0.97 else 0.5)
    assert found.highest_passing_rps <= 0.97 < found.lowest_failing_rps
    assert found.narrow(0.1)


def test_the_passing_end_is_repeated_as_often_as_asked_for() -> None:
    """`confirm` repeats the probe on which the capacity rests."""
    found, steps = walked(lambda step, _: smooth(step.rate_rps), confirm=2)
    assert [step.rate_rps for step in steps if step.confirms] == [found.highest_passing_rps] * 2


def test_repeats_that_fail_send_the_search_below() -> None:
    """A capacity that cannot be repeated is given up for a lower one."""
    bad = set()

    def outcome(step: NextProbe, _: int) -> float:
        if step.confirms:
            bad.add(step.rate_rps)
        return 0.3 if step.confirms else smooth(step.rate_rps)

    found, _ = walked(outcome, confirm=1)
    assert len(bad) > 1
    assert found.highest_passing_rps < max(bad)


@given(st.floats(0.45, 1.2), st.integers(0, 1000), st.floats(0.0, 0.4))
def test_a_noisy_search_ends_and_its_bracket_is_in_order(capacity: float, seed: int, noise: float) -> None:
    """Whatever chance does, the search stays in its budget and its passing end below its failing one."""
    draw = random.Random(seed)
    spec = SearchSpec(max_probes=12, precision=0.05, confirm=1)
    found = Bracket(1.2)
    while (step := next_rate(found, spec)) is not None:
        missed = min(1.0, 0.1 * (step.rate_rps / capacity) ** 8 * math.exp(draw.gauss(0, noise)))
        found = found.add(step.rate_rps, passed=missed <= 0.1, missed=missed)
        assert 0 < step.rate_rps <= CEILING * 1.2 * (1 + 1e-9)
    assert found.tried <= 12
    low, high = found.highest_passing_rps, found.lowest_failing_rps
    assert low is None or high is None or low < high


def test_no_bound_of_the_excess_is_infinite() -> None:
    """Extreme probes weigh much but never outweigh all others together."""
    assert excess_of(passed=True, missed=0.0, may=0.1) == -excess_of(passed=False, missed=1.0, may=0.1)
    assert excess_of(passed=False, missed=0.01, may=0.1) > 0  # unstable
    assert excess_of(passed=True, missed=None, may=0.1) < -STRONG
