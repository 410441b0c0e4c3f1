"""Sections stand only where something is to be said."""

from tests.breakeven.scenarios import EVERYTHING, decide, scenario
from tokenhour.breakeven.report.tables import sections


def test_sections_stand_only_where_they_are_asked() -> None:
    """The report has a section for each optional question that was asked, and for no other."""
    asked_for = {s.name for s in sections(decide(scenario(**EVERYTHING)))}
    assert {"portfolio", "levers", "spot", "commitments", "training", "efficiency"} <= asked_for
    unasked = {s.name for s in sections(decide())}
    assert not {"portfolio", "levers", "spot", "commitments", "training", "efficiency"} & unasked
    for section in sections(decide(scenario(**EVERYTHING))):
        assert all(len(cells) == len(section.columns) for cells in section.rows), section.name
