"""Every process keeps the offered mean rate, has its own variation, and comes from its seed alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tokenhour.bench.statistics.rate_search import window_s
from tokenhour.bench.workload import arrivals
from tokenhour.contracts.config.bench import ArrivalSpec, BenchSpec, SearchSpec, SloSpec
from tokenhour.contracts.records.endpoint import Load

SPECS = [
    ArrivalSpec(),
    ArrivalSpec(process="constant"),
    ArrivalSpec(process="gamma", burstiness=0.25),
    ArrivalSpec(process="gamma", burstiness=4),
    ArrivalSpec(process="bursts", on_s=0.5, off_s=1.5),
    ArrivalSpec(process="diurnal", hourly_share=(1, 2, 3, 2), day_s=10),
    ArrivalSpec(process="trace"),
]
TRACE = np.cumsum(np.random.default_rng(5).exponential(2.0, 500))


def times_of(spec: ArrivalSpec, rate: float = 200.0, horizon: float = 100.0, seed: int = 3) -> np.ndarray:
    """Draw a schedule of the process."""
    return arrivals.schedule(spec, rate, horizon, arrivals.rng_of(seed, 1), TRACE)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.process}-{s.burstiness:g}")
def test_the_mean_rate_is_the_offered_one_and_times_are_ordered_inside_the_horizon(spec: ArrivalSpec) -> None:
    """Every process offers the same load, and a seed repeats it exactly."""
    times = times_of(spec)
    assert len(times) / 100 == pytest.approx(200, rel=0.04)
    assert np.all(np.diff(times) >= 0)
    assert times[0] >= 0
    assert times[-1] < 100
    assert np.array_equal(times, times_of(spec))


@pytest.mark.parametrize(("spec", "variation"), [(SPECS[0], 1.0), (SPECS[1], 0.0), (SPECS[2], 2.0), (SPECS[3], 0.5)])
def test_the_gaps_vary_as_the_process_says(spec: ArrivalSpec, variation: float) -> None:
    """Burstiness is the coefficient of variation that the user asked for."""
    gaps = np.diff(times_of(spec))
    assert gaps.std() / gaps.mean() == pytest.approx(variation, abs=0.05 * max(1, variation))


def test_bursts_are_silent_in_between() -> None:
    """No request arrives in the pauses."""
    phase = times_of(SPECS[4]) % 2.0
    assert phase.max() <= 0.5


@pytest.mark.parametrize(
    ("spec", "whole_s"),
    [
        (ArrivalSpec(process="bursts", on_s=2, off_s=11), 26),
        (ArrivalSpec(process="diurnal", hourly_share=(0, 0, 3, 1), day_s=15), 30),
    ],
    ids=["bursts", "diurnal"],
)
@pytest.mark.parametrize("begins_s", [0.0, 3.0])
def test_a_window_is_offered_its_rate_wherever_it_begins(spec: ArrivalSpec, whole_s: int, begins_s: float) -> None:
    """As the search makes them: of 20 s at least, and of whole cycles."""
    length_s = window_s(200.0, SearchSpec(), SloSpec(percentile=90, ttft_s=1), spec.cycle_s)
    assert length_s == whole_s
    times = times_of(spec, horizon=begins_s + length_s + 3)
    inside = np.sum((times >= begins_s) & (times < begins_s + length_s))
    assert inside == pytest.approx(200 * length_s, abs=3 * np.sqrt(200 * length_s))


LOAD = {"workload": {"prompt": {"mean_tokens": 20}, "output": {"mean_tokens": 5}}, "slo": {"percentile": 90, "ttft_s": 1}}


@pytest.mark.parametrize(
    ("arrivals", "said"),
    [
        ({"process": "diurnal", "hourly_share": [1, 2, 3]}, r"day_s = 86400 s is longer than .*max_probe_s = 60 s"),
        ({"process": "bursts", "on_s": 30, "off_s": 31}, r"on_s \+ off_s = 61 s is longer"),
    ],
    ids=["a real day in windows of a minute", "bursts"],
)
def test_a_cycle_that_no_window_holds_is_refused(arrivals: dict[str, Any], said: str) -> None:
    """A mean over part of a cycle would be wrong; the message gives both lengths."""
    with pytest.raises(ValidationError, match=said):
        BenchSpec.model_validate({**LOAD, "arrivals": arrivals})
    longer = {**LOAD, "arrivals": arrivals, "search": {"max_probe_s": 86_400}}
    assert BenchSpec.model_validate(longer).arrivals.cycle_s in {86_400, 61}
    Load.parse({**LOAD, "arrivals": arrivals}, where="a record")  # what was measured stays readable


def test_a_day_has_its_shape() -> None:
    """Arrivals follow the hourly shares, scaled to the length of the day."""
    part = np.floor(times_of(SPECS[5]) % 10 / 2.5).astype(int)
    assert np.bincount(part) / len(part) == pytest.approx(np.array([1, 2, 3, 2]) / 8, abs=0.02)


def test_a_trace_keeps_its_pattern_at_another_rate() -> None:
    """Stretching a trace scales every gap alike."""
    times = times_of(ArrivalSpec(process="trace"), rate=1.0, horizon=400)
    stretch = np.diff(times[:400]) / np.diff(TRACE[:401])[: len(times[:400]) - 1]
    assert stretch.std() < 1e-6 * stretch.mean()


def test_a_trace_at_its_own_rate_is_the_trace() -> None:
    """Replaying at the native rate repeats the recorded times."""
    own = arrivals.native_rate_rps(TRACE)
    assert own == pytest.approx(0.5, rel=0.1)
    times = times_of(ArrivalSpec(process="trace"), rate=own, horizon=float(TRACE[-1] - TRACE[0]))
    assert times[:499] == pytest.approx(TRACE[:499] - TRACE[0])


@given(st.floats(0.5, 50), st.floats(0.5, 20), st.floats(0.1, 5))
def test_no_gamma_schedule_ends_before_its_horizon(rate: float, horizon: float, shape: float) -> None:
    """Enough gaps are drawn to fill the horizon, whatever rate and burstiness."""
    times = arrivals.gamma(rate, horizon, shape, np.random.default_rng(0))
    more = arrivals.gamma(rate, horizon * 2, shape, np.random.default_rng(0))
    assert len(times) <= len(more) + 20 * max(1, rate)
    assert all(t < horizon for t in times)


def test_arrivals_do_not_depend_on_how_lengths_are_drawn() -> None:
    """Each purpose has its own random stream, so that changing lengths keeps the arrivals."""
    first = arrivals.poisson(10, 10, arrivals.rng_of(7, 2))
    assert np.array_equal(first, arrivals.poisson(10, 10, arrivals.rng_of(7, 2)))
    assert not np.array_equal(first[:5], arrivals.poisson(10, 10, arrivals.rng_of(7, 3))[:5])


@pytest.mark.parametrize("seed", [11, 12, 13])
@pytest.mark.parametrize("rate", [50, 100, 200, 400])
def test_the_long_run_mean_and_variation_of_poisson_schedules_are_right(rate: int, seed: int) -> None:
    """200,000 arrivals: their own sampling error of the mean is 0.22 %, so that 1 % is more than four of them."""
    rng = np.random.default_rng([rate, seed])
    times = arrivals.schedule(ArrivalSpec(), float(rate), 200_000 / rate, rng)
    gaps = np.diff(times)
    assert len(times) >= 100_000
    assert gaps.mean() * rate == pytest.approx(1, abs=0.01)
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.02)
    counts = np.bincount(times.astype(int))  # of each second: a Poisson count's variance is its mean
    assert counts.var() / counts.mean() == pytest.approx(1, abs=6 * np.sqrt(2 / len(counts)))
    assert np.corrcoef(gaps[1:], gaps[:-1])[0, 1] == pytest.approx(0, abs=0.01)
