"""Labels of the axes."""

import pytest

from tokenhour.breakeven.report.plots.figure import few_digits, few_dollars


@pytest.mark.parametrize(("value", "said"), [(0.05, "$0.05"), (20.0, "$20"), (3000.0, ""), (5000.0, "$5k")])
def test_a_log_axis_is_labelled_at_1_2_and_5_of_each_decade(value: float, said: str) -> None:
    """Labels for every minor tick would lie over each other."""
    assert few_dollars(value) == said
    assert bool(few_digits(value)) == bool(said)
