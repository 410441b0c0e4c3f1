"""Prices out of LiteLLM's file are those that were seen in it."""

import datetime as dt

import pytest

from tests.breakeven.prices.seen import SEEN, agrees, row
from tokenhour.contracts.config.prices import ApiPrice


@pytest.mark.parametrize(
    "key", [k for k in SEEN if k[0] in {"gpt-4o-mini", "gpt-5-mini", "claude-haiku-4-5", "claude-haiku-5-5"}], ids="-".join
)
def test_litellm_gives_what_was_seen(litellm: list[ApiPrice], key: tuple[str, str]) -> None:
    """Prices imported from LiteLLM's file match those read there by hand."""
    agrees(row(litellm, *key), SEEN[key])


def test_the_end_of_a_model_comes_along(litellm: list[ApiPrice]) -> None:
    """The date on which a model is withdrawn is imported with its price."""
    assert row(litellm, "gpt-5-mini", "openai").deprecated_on == dt.date(2026, 12, 11)
