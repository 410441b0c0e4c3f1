"""The wider cost questions are refused where their answer would mean nothing."""

from typing import Any

import pytest
from pydantic import ValidationError

from tokenhour.contracts.config.economics_extras import FeatureSpec, LeverSpec, Spread

FEATURE = {"name": "search", "requests_per_month": 1.0, "prompt_tokens": 1.0, "output_tokens": 1.0}


def test_a_spread_holds_the_value_itself() -> None:
    """An input's own value lies between its 10th and its 90th percentile, ends included."""
    assert Spread(p10=1, p90=1).p90 == 1
    for p10, p90 in ((1.1, 1.2), (0.8, 0.9)):
        with pytest.raises(ValidationError, match="must lie on either side of 1"):
            Spread(p10=p10, p90=p90)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt_tokens": 0, "output_tokens": 0}, "has no tokens"),
        ({"model": "gpt-4o-mini"}, "model and host belong together"),
        ({"hours": [1] * 12}, "hours must be 24 or 168 weights"),
        ({"hours": [0] * 24}, "do not sum to zero"),
    ],
)
def test_a_feature_that_says_too_little_is_refused(changes: dict[str, Any], said: str) -> None:
    """A feature needs tokens, one API or none, and hours with some demand."""
    FeatureSpec.model_validate(FEATURE)
    with pytest.raises(ValidationError, match=said):
        FeatureSpec.model_validate(FEATURE | changes)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"lever": "spot", "low": 0.3, "high": 0.2}, "low 0.3 is above high 0.2"),
        ({"lever": "spot", "low": 0.3}, "low and high belong together"),
        ({"lever": "spot", "record": "idle.json"}, "record belongs to lever idle_gpus on line gpu, not to spot on gpu"),
        ({"lever": "idle_gpus", "line": "ops", "record": "idle.json"}, "not to idle_gpus on ops"),
    ],
)
def test_a_saving_without_a_sound_range_is_refused(fields: dict[str, Any], said: str) -> None:
    """Half a range, a reversed one, or another lever's record would move the wrong cost."""
    with pytest.raises(ValidationError, match=said):
        LeverSpec.model_validate(fields)
