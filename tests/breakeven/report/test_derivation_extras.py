"""The wider questions' figures have their origin beside them too."""

from pathlib import Path

import pytest

from tests.breakeven.origins import dangling, orphans, page, parse
from tests.breakeven.scenarios import EVERYTHING, decide, scenario
from tokenhour.contracts.config.scenario import load_scenario


@pytest.mark.parametrize("solved", ["everything", "team"])
def test_every_figure_of_the_wider_answers_has_its_origin(solved: str) -> None:
    """The optional sections also name the source of every figure, so none has to be believed."""
    asked = scenario(**EVERYTHING) if solved == "everything" else load_scenario(Path("configs/scenarios/team.yaml"))
    root = parse(page(decide(asked)))
    seen, found = orphans(root)
    assert found == []
    assert seen > 150
    assert dangling(root) == []
