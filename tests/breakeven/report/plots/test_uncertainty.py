"""What the distribution says of the draws that it cannot show."""

import pytest

from tests.breakeven.scenarios import decide
from tokenhour.breakeven.report.plots.uncertainty import distribution


@pytest.mark.parametrize(("never", "said"), [(0.0, ""), (0.001, "; none in under 1%"), (0.25, "; none in 25% of the draws")])
def test_the_share_of_draws_without_a_break_even_stands_in_the_title(never: float, said: str) -> None:
    """A histogram alone would hide the draws in which it never pays off."""
    found = decide()
    best = found.runs[0]
    c = best.comparisons[1]
    draws = c.monte_carlo.model_copy(update={"never_probability": never})
    best = best.model_copy(update={"comparisons": (c.model_copy(update={"monte_carlo": draws}),)})
    (axis,) = distribution(found, best).axes
    assert axis.get_title(loc="left") == f"{c.price.title}{said}"
