"""The parts of the bill."""

from tests.breakeven.scenarios import decide
from tokenhour.breakeven.report.plots.monthly_bill import stacked
from tokenhour.contracts.records.verdict import Verdict


def legend(found: Verdict) -> set[str]:
    """Return what the legend of the bill names."""
    return {text.get_text() for text in stacked(found).axes[0].get_legend().get_texts()}


def test_a_part_that_costs_nothing_is_left_out_of_the_legend() -> None:
    """Idle time is a part of its own; set-up is one only where there is any."""
    always = {"machines, busy", "machines, idle", "by API"}
    assert legend(decide()) == always
    assert legend(decide(setup_usd=3600)) == {*always, "set-up"}
