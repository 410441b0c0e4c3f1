"""The panels of the months ahead."""

from tests.breakeven.scenarios import decide
from tokenhour.breakeven.report.plots.savings_over_time import cumulative


def test_a_panel_without_an_api_is_hidden() -> None:
    """Four APIs in rows of three leave two panels over."""
    best = decide().runs[0]
    four = best.model_copy(update={"comparisons": best.comparisons * 2})
    assert [axis.get_visible() for axis in cumulative(four).axes] == [True] * 4 + [False] * 2
