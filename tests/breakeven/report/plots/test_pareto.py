"""The front of quality and cost."""

from tests.breakeven.summaries import hour, summary
from tokenhour.breakeven.compare.runs import entry
from tokenhour.breakeven.report.plots.pareto import quality_against_cost
from tokenhour.contracts.record import Interval


def test_a_run_that_another_beats_in_both_says_so() -> None:
    """The runs of the front are joined, and the others are told apart in the legend too."""
    made = (("fast", 2e6, 0.2), ("true", 1e6, 0.0), ("beaten", 0.9e6, 0.2))
    runs = [entry(summary(run=name, at_slo=hour(output, 1.0)), Interval(value=loss), None) for name, output, loss in made]
    (axis,) = quality_against_cost(runs, {"fast", "true"}).axes
    said = {text.get_text() for text in axis.get_legend().get_texts()}
    assert said == {"Pareto front", "fast", "true", "beaten (another is cheaper and closer)"}
