"""A summary's points and reasons, as they are read."""

import pytest

from tests.breakeven.summaries import LAG, point, summary


def test_the_saturated_point_is_the_closed_loops() -> None:
    """A run that was measured at given rates alone has no peak of its own to show."""
    found = summary()
    assert found.saturated_point() == found.load_curve[0]
    assert summary(load_curve=found.load_curve[1:]).saturated_point() is None


@pytest.mark.parametrize(
    ("met", "stable", "passed"),
    [(True, True, True), (True, False, False), (True, None, False), (False, True, False), (None, True, False)],
)
def test_a_rate_passes_only_where_both_are_known_and_good(met: bool | None, stable: bool | None, passed: bool) -> None:
    """What could not be estimated has not passed."""
    assert point(1, 2.0, 100.0, 0.3, met=met).model_copy(update={"stable": stable}).passed is passed


def test_a_reason_says_its_cause_where_it_is_known() -> None:
    """The cause stands behind the figure, and nothing stands there without one."""
    assert LAG.found() == "client lag: 1 s"
    assert (
        LAG.model_copy(update={"explanation": "waited 0.9 s for a CPU"}).found()
        == "client lag: 1 s (waited 0.9 s for a CPU)"
    )
