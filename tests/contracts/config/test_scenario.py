"""A scenario stands on measured runs or on an assumed capacity, never on both or neither."""

from typing import Any

import pytest
from pydantic import ValidationError

from tokenhour.contracts.config.scenario import Scenario

ASSUMED = {"source": "a test", "output_tokens_per_hour": 1e6, "prompt_tokens": 512, "output_tokens": 256}
ECONOMICS = {"hardware": "c7i.large", "apis": [{"model": "gpt-4o-mini", "host": "openai"}]}


def scenario(**fields: Any) -> Scenario:
    """Make a scenario of one machine and one API with these fields."""
    return Scenario.model_validate({"name": "team", "economics": ECONOMICS, **fields})


@pytest.mark.parametrize("both_or_none", [{}, {"summaries": ["results/a"], "assumed": ASSUMED}])
def test_a_capacity_has_one_origin(both_or_none: dict[str, Any]) -> None:
    """Nobody mixes up what was measured with what was assumed."""
    assert scenario(summaries=["results/a"]).assumed is None
    with pytest.raises(ValidationError, match="give either summaries"):
        scenario(**both_or_none)


def test_a_section_is_hashed_by_what_it_holds() -> None:
    """A change of the assumed capacity leaves the hash of the economics alone."""
    one, other = scenario(assumed=ASSUMED), scenario(assumed=ASSUMED | {"output_tokens_per_hour": 2e6})
    assert one.section_sha256("economics") == other.section_sha256("economics")
    assert one.section_sha256("assumed") != other.section_sha256("assumed")
