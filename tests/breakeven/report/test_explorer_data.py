"""What the page's explorer gets, and when there is none."""

import datetime as dt

import pytest

from tests.breakeven.scenarios import ON, PRICES, decide
from tokenhour.breakeven.prices.tables import load_tables
from tokenhour.breakeven.report.explorer_data import MOST_STEPS, build, price_path, why_not


@pytest.mark.parametrize(
    ("model", "prices"),
    [("gemini-3.8-flash", ["0.75", "0.75", "1.5", "1.5"]), ("gpt-5-mini", ["0.25", "0.25", "0.25", "0.25"])],
)
def test_an_announced_price_comes_on_its_day_and_the_last_one_is_held(model: str, prices: list[str]) -> None:
    """gemini-3.8-flash doubles on 2027-01-01; gpt-5-mini ends on 2026-12-11 without a successor."""
    rows = [row for row in load_tables(PRICES).apis if row.model == model]
    days = [ON, dt.date(2026, 12, 31), dt.date(2027, 1, 1), dt.date(2027, 2, 1)]
    assert [str(row.input) for row in price_path(rows, days)] == prices


def test_a_fleet_with_too_many_steps_for_a_browser_has_no_explorer() -> None:
    """The page then says why, instead of standing still."""
    found = decide()
    best = found.runs[0]
    assert why_not(found, best) == ""
    assert build(found, best)
    large = best.fleet.model_copy(update={"scaling": "autoscale", "max_replicas": MOST_STEPS + 1})
    best = best.model_copy(update={"fleet": large})
    assert "too many steps" in why_not(found, best)
    assert build(found, best) is None
