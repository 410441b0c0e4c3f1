"""Price changes that the tables know."""

import pytest

from tests.breakeven.scenarios import decide, scenario


def test_known_price_changes_enter_the_projection() -> None:
    """gemini-3.8-flash doubles on 2027-01-01; gpt-5-mini ends on 2026-12-11."""
    apis = [{"model": "gemini-3.8-flash", "host": "google"}, {"model": "gpt-5-mini", "host": "openai"}]
    gemini, mini = (c.projection for c in decide(scenario(apis=apis)).runs[0].comparisons)
    assert gemini.months[2].api_usd == pytest.approx(2 * gemini.months[1].api_usd)
    assert any("2027-01-01" in note for note in gemini.notes)
    assert mini.months[3].api_usd == pytest.approx(mini.months[0].api_usd)
    assert any("2026-12-11" in note and "held" in note for note in mini.notes)
