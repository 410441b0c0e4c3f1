"""What the plot of the day says of itself."""

import pytest

from tests.breakeven.scenarios import decide
from tokenhour.breakeven.report.plots.hourly_demand import caption


@pytest.mark.parametrize(
    ("base", "said"), [(0, "no replica of one's own and"), (1, "1 base replica and"), (2, "2 base replicas and")]
)
def test_the_caption_counts_the_base_of_the_mixture(base: int, said: str) -> None:
    """Who cannot see the plot reads the mixture and where the shape comes from; flat demand is shown as a day."""
    found = decide()
    best = found.runs[0]
    c = best.comparisons[0]
    text = caption(found, best, c.model_copy(update={"hybrid": c.hybrid.model_copy(update={"base_replicas": base})}))
    assert said in text
    assert text.startswith("Demand of 24 hours")
    assert text.endswith("flat over the month (assumed).")
