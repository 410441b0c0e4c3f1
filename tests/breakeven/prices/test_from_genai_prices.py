"""Prices out of genai-prices are those that were seen in the package."""

import datetime as dt
from decimal import Decimal

import pytest

from tests.breakeven.prices.seen import GENAI, ON, SEEN, agrees, row
from tokenhour.breakeven.prices.from_genai_prices import from_genai_prices
from tokenhour.contracts.config.prices import ApiPrice


@pytest.mark.parametrize("key", SEEN, ids="-".join)
def test_genai_prices_gives_what_was_seen(genai: list[ApiPrice], key: tuple[str, str]) -> None:
    """Prices imported from genai-prices match those read in the package by hand."""
    agrees(row(genai, *key), SEEN[key])


def test_tiers_and_future_prices_come_along(genai: list[ApiPrice]) -> None:
    """Context tiers and announced price changes are imported too, so later bills are not underestimated."""
    tier = row(genai, "claude-haiku-5-5", "anthropic").context_tiers[0]
    assert (tier.above_input_tokens, tier.input, tier.output) == (100_000, Decimal("0.5"), Decimal("2.5"))
    assert row(genai, "gemini-3.8-flash", "google", dt.date(2027, 1, 1)).input == Decimal("1.5")
    assert row(genai, "gemini-3.8-flash", "google", dt.date(2026, 12, 31)).input == Decimal("0.75")


def test_the_package_and_its_json_are_read_alike(genai: list[ApiPrice]) -> None:
    """Importing from the installed package or from its JSON file gives the same prices."""
    (one,) = [r for r in from_genai_prices(GENAI, ON) if r.model == "gpt-4o-mini"]
    same = row(genai, "gpt-4o-mini", "openai")
    assert one.model_dump(exclude={"source", "source_url"}) == same.model_dump(exclude={"source", "source_url"})
