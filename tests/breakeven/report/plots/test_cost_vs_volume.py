"""The cost plot at its edges."""

from tests.breakeven.scenarios import decide
from tokenhour.breakeven.report.plots.cost_vs_volume import against_volume
from tokenhour.breakeven.report.plots.figure import render as plot


def test_no_volume_has_a_place_on_the_cost_plot_and_raises_no_warning() -> None:
    """The cost plot can be drawn for a volume of zero."""
    found = decide(tokens_per_month=0)
    assert plot("cost", "", lambda: against_volume(found, found.runs[0])).png
