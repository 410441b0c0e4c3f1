"""What a counter did in its worst second, and which reasons slowed a GPU."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenhour.bench.telemetry.series import Series, Telemetry
from tokenhour.contracts.records.telemetry import TelemetryRow


def series(pairs: Sequence[tuple[float, float]]) -> Series:
    """Return a series of (time, value)."""
    return Series(*np.asarray(pairs, dtype=float).T)


def test_a_steady_counters_worst_second_is_its_rate() -> None:
    """Without jumps the worst second equals the mean."""
    assert series([(t / 10, t / 100) for t in range(200)]).worst_second(2.0, 18.0) == pytest.approx(0.1)


def test_a_wait_is_counted_where_it_ended() -> None:
    """A jump belongs to every window that it ends in, even if it began before."""
    jump = [(t / 10, 0.0 if t < 55 else 0.8) for t in range(200)]
    assert series(jump).worst_second(2.0, 18.0) == pytest.approx(0.8)
    assert series(jump).worst_second(7.0, 18.0) == 0.0
    assert series(jump).worst_second(2.0, 5.45) == pytest.approx(0.8)  # it began in the window


def test_where_no_sample_came_for_longer_the_whole_gap_counts() -> None:
    """A pause in sampling cannot hide a long wait."""
    assert series([(0, 0), (1, 0), (3, 1.7), (4, 1.7)]).worst_second(0.5, 3.5) == pytest.approx(1.7)


def test_one_sample_says_nothing() -> None:
    """A difference needs two samples; unknown is not zero."""
    assert series([(1, 5)]).worst_second(0, 9) is None
    assert Telemetry().worst_second("generator", "run_queue_wait_s_total", 0, 9) is None


def test_of_several_load_processes_the_worst_counts() -> None:
    """One slow process makes its requests late, however idle the others are."""
    rows = [TelemetryRow(t / 10, "generator", k, "wait", w * t) for k, w in (("", 0.001), ("1", 0.01)) for t in range(50)]
    assert Telemetry.of(rows).worst_second("generator", "wait", 1, 4) == pytest.approx(0.1)


@given(st.lists(st.tuples(st.floats(0.01, 0.9), st.floats(0, 1)), min_size=3, max_size=60))
def test_it_is_between_the_largest_step_and_the_whole_increase(steps: list[tuple[float, float]]) -> None:
    """Within a second or a single gap: never less than one step, never more than all of them."""
    t_s, value = np.cumsum(np.asarray(steps), axis=0).T
    found = Series(t_s, value).worst_second(t_s[0], t_s[-1])
    assert np.diff(value).max() - 1e-9 <= found <= value[-1] - value[0] + 1e-9


def test_throttling_is_told_from_the_reasons_that_slow_a_gpu() -> None:
    """Idle clocks, set clocks and the power cap are no throttling; heat and power brakes are."""

    def rows(reasons: list[int]) -> list[TelemetryRow]:
        return [TelemetryRow(float(k), "gpu", "0", "throttle_reasons", float(v)) for k, v in enumerate(reasons)]

    assert Telemetry.of(rows([0x1, 0x2, 0x4, 0x0])).throttled(0, 3) == 0  # idle, a set clock, the power cap
    assert Telemetry.of(rows([0x8, 0x20, 0x40, 0x80])).throttled(0, 3) == 1  # slow-down, thermal, power brake
    assert Telemetry.of([]).throttled(0, 3) is None
