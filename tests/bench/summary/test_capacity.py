"""Which points are the ends of a search."""

from tests.bench.summary.conftest import BENCH, point
from tokenhour.bench.statistics.rate_search import Bracket
from tokenhour.bench.summary.capacity import bracket_of, ends, with_point


def searched(*points: tuple[float, bool | None]) -> tuple[float | None, float | None]:
    """Return the ends that a search's summary states for (rate, met, stopped early)."""
    one = point()
    made = [
        one.model_copy(
            update={
                "probe": k, "phase": "search", "offered_rps": rate, "slo_met": met, "stable": met is True,
                "missed_share": 0.1 if met else 0.9,
            }
        )
        for k, (rate, met) in enumerate(points)
    ]  # fmt: skip
    best, failing = ends("search", made, BENCH.slo)
    live = Bracket(0.0)
    for one in made:
        live = with_point(live, one, BENCH.slo)
    assert bracket_of(made, BENCH.slo) == live
    return (best.offered_rps if best else None), failing


def test_a_search_is_judged_in_its_summary_as_it_judged_itself() -> None:
    """Deriving the summary again gives the ends that the live search stopped at."""
    assert searched((10, True), (12, False)) == (10, 12)
    assert searched((10, True), (12, None)) == (10, None)  # not seen to fail: too few samples
    assert searched((10, True), (14, False), (12, None)) == (10, 14)
    assert searched((10, False), (7, None)) == (None, 10)
