"""Economics that contradict themselves are refused before anything is solved."""

from typing import Any

import pytest
from pydantic import ValidationError

from tokenhour.contracts.config.economics import EconomicsSpec, ProfileSpec

LEVER = {"lever": "spot", "low": 0.1, "high": 0.2}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cached_share": 0.7, "cache_write_share": 0.5}, "exceed the input"),
        ({"currency": "EUR"}, "currency EUR has no rate"),
        ({"rates": {"euro": {"usd": 1.1, "source": "a test"}}}, "which is no currency code"),
        ({"purchase": "owned"}, "belong together"),
        ({"owned": {"capex_usd": 1.0}}, "belong together"),
        ({"hardware": ""}, "hardware is missing"),
        ({"tokens_per_month": 1.0, "requests_per_month": 1.0}, "keep one"),
        ({"prompt_tokens": 9.0, "request_classes": [{"share": 1, "prompt_tokens": 1, "output_tokens": 1}]}, "keep one"),
        ({"request_classes": [{"share": 1, "prompt_tokens": 0, "output_tokens": 0}]}, "hold no tokens"),
        ({"levers": [LEVER, LEVER]}, "spot on gpu twice"),
        ({"apis": []}, "at least 1 item"),
    ],
)
def test_a_contradiction_is_named(changes: dict[str, Any], said: str) -> None:
    """Two answers to one question, or none, would price another case than the user meant."""
    plain = {"hardware": "c7i.large", "apis": [{"model": "gpt-4o-mini", "host": "openai"}]}
    assert EconomicsSpec.model_validate(plain).currency == "USD"
    with pytest.raises(ValidationError, match=said):
        EconomicsSpec.model_validate(plain | changes)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "give one of hours, file and trace"),
        ({"file": "a.json", "trace": "a.csv"}, "give one of hours, file and trace"),
        ({"hours": [1] * 23}, "hours has 23 weights"),
        ({"hours": [0] * 24}, "sums to zero"),
    ],
)
def test_a_profile_is_one_shape_of_a_day_or_a_week(fields: dict[str, Any], said: str) -> None:
    """Demand comes from exactly one place, and has some in it."""
    with pytest.raises(ValidationError, match=said):
        ProfileSpec.model_validate(fields)
