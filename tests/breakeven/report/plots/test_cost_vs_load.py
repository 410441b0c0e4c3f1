"""The measured points on the cost of a token."""

from pathlib import Path

from tests.breakeven.scenarios import asked, solve
from tests.breakeven.summaries import summary
from tokenhour.breakeven.report.plots.cost_vs_load import usd_against_load


def test_a_probe_that_missed_the_objective_or_closed_the_loop_is_hollow(tmp_path: Path) -> None:
    """Of the four probes the first is the saturated one, and the third failed."""
    one = summary("none")
    (tmp_path / one.run).mkdir()
    one.write(tmp_path / one.run)
    (axis,) = usd_against_load(solve(tmp_path, asked(schemes=["none"])), [one]).axes
    points = [line for line in axis.lines if line.get_linestyle() == "None"]
    assert [line.get_markerfacecolor() == "white" for line in points] == [True, False, True, False]
