"""People read figures in three digits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenhour.contracts.units import human_bytes, human_count, human_seconds, per_hour


@pytest.mark.parametrize(
    ("count", "text"), [(769e6, "769M"), (1538e6, "1.54B"), (2.2e12, "2.2T"), (950, "950"), (0, "0"), (12345, "12.3k")]
)
def test_token_volumes(count: float, text: str) -> None:
    """Counts are shortened to three digits with k, M, B or T."""
    assert human_count(count) == text


@pytest.mark.parametrize(("count", "text"), [(162_600_000, "162.6 MB"), (12, "12 B"), (3e15, "3000.0 TB")])
def test_bytes(count: float, text: str) -> None:
    """Sizes use decimal units up to TB."""
    assert human_bytes(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.42, "0.42 s"), (37.2, "37 s"), (245, "4 min 05 s"), (7320, "2 h 02 min")])
def test_durations(seconds: float, text: str) -> None:
    """Durations are told in the largest units that a reader thinks in."""
    assert human_seconds(seconds) == text


@given(st.floats(min_value=0, max_value=1e9))
def test_a_rate_an_hour_is_3600_times_that_a_second(rate: float) -> None:
    """The conversion behind tokens per GPU-hour is exact at any magnitude."""
    assert per_hour(rate) == pytest.approx(3600 * rate)
