"""Which run is worse than another, and which no other beats."""

import pytest

from tests.breakeven.summaries import hour, summary
from tokenhour.breakeven.compare.runs import ComparedRun, entry, pareto, regressions, worse
from tokenhour.contracts.record import Interval


@pytest.mark.parametrize(
    ("now", "more", "is_worse"),
    [
        ((8, 9), True, True),
        ((8, 10), True, False),
        ((12, 14), True, False),
        ((12, 14), False, True),
        ((11, 14), False, False),
    ],
)
def test_touching_intervals_are_no_regression(now: tuple[int, ...], more: bool, is_worse: bool) -> None:
    """A run is worse only when its interval lies wholly on the wrong side, so noise raises no alarm."""
    before = Interval(value=10.5, low=10, high=11)
    assert worse(before, Interval(value=sum(now) / 2, low=now[0], high=now[1]), more_is_better=more) is is_worse


def test_the_front_holds_whatever_no_other_beats_in_both() -> None:
    """The Pareto front keeps every run that no other run beats on both speed and quality."""

    def at(name: str, output: float, loss: float) -> ComparedRun:
        return entry(summary(run=name, at_slo=hour(output, 1.0)), Interval(value=loss), None)

    entries = [at("fast", 2e6, 0.2), at("true", 1e6, 0.0), at("between", 1.5e6, 0.05), at("beaten", 0.9e6, 0.2)]
    assert pareto(entries) == {"fast", "true", "between"}
    assert {r.run for r in regressions(entries)} == {"true", "between", "beaten"}
