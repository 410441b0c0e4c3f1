"""Rows of the price tables as somebody looks for them."""

import datetime as dt

import pytest

from tests.breakeven.prices.seen import PRICES
from tokenhour.breakeven.prices.listing import chosen
from tokenhour.breakeven.prices.tables import load_tables
from tokenhour.contracts.errors import InputError

TABLES = load_tables(PRICES)
EVE, NEW_YEAR = dt.date(2026, 12, 31), dt.date(2027, 1, 1)


def test_a_day_leaves_only_the_row_that_is_in_force_then() -> None:
    """Without a day every row is listed, an announced price too."""
    before, after = (chosen(TABLES, "gemini-3.8-flash", "google", day) for day in (EVE, NEW_YEAR))
    assert len(before) == len(after) == 1
    assert before != after
    assert chosen(TABLES, "gemini-3.8-flash", "google", None) == [*before, *after]


def test_a_name_that_matches_nothing_lists_the_nearest() -> None:
    """A typing error in a host is answered with the host that was meant."""
    with pytest.raises(InputError, match="no price matches host 'gogle'") as caught:
        chosen(TABLES, "", "gogle", None)
    assert "google" in caught.value.remedy
