"""Anchors of the inputs."""

from tests.breakeven.scenarios import EVERYTHING, decide, scenario
from tokenhour.breakeven.report.derivation_step import slug


def test_no_two_inputs_share_an_anchor() -> None:
    """A link from a figure leads to the input that is meant."""
    names = {a.name for a in decide(scenario(**EVERYTHING)).assumptions}
    assert len({slug(name) for name in names}) == len(names)
    assert slug("output over input price") == "output-over-input-price"
