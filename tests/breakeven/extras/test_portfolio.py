"""Features go where they cost least, unless something keeps them at the API."""

from typing import Any

import pytest

from tests.breakeven.scenarios import FEATURES, decide, scenario
from tokenhour.breakeven.extras.portfolio import satisfies
from tokenhour.contracts.config.bench import SloSpec


def test_the_portfolio_places_each_feature_with_its_reason() -> None:
    """Each feature goes to the cheaper side, unless its objective or quality keeps it at the API."""
    fast = {"input_tokens_per_hour": 2.7e7, "output_tokens_per_hour": 1.35e7}
    found = decide(scenario(fast, portfolio=FEATURES)).portfolio
    sides = {p.name: p.side for p in found.placements}
    assert sides == {"chat": "self-host", "small": "self-host", "voice": "api", "law": "api"}
    reasons = {p.name: p.reason for p in found.placements}
    assert "stricter" in reasons["voice"]
    assert "quality" in reasons["law"]
    chat = found.placements[0]
    assert chat.api_usd_per_month == pytest.approx(30 * (700 * 0.15 + 300 * 0.6))
    assert found.total_usd_per_month == pytest.approx(found.self_host_usd_per_month + found.api_usd_per_month)
    assert found.total_usd_per_month < found.all_api_usd_per_month
    assert found.all_self_host_usd_per_month is None


@pytest.mark.parametrize(
    ("measured", "wanted", "expected"),
    [
        ({"percentile": 99, "ttft_s": 0.5}, {"percentile": 90, "ttft_s": 0.5}, True),
        ({"percentile": 90, "ttft_s": 0.5}, {"percentile": 99, "ttft_s": 0.5}, False),
        ({"percentile": 90, "ttft_s": 0.5}, {"percentile": 90, "ttft_s": 0.4}, False),
        ({"percentile": 90, "ttft_s": 0.5}, {"percentile": 90, "tpot_s": 0.1}, False),
        ({"percentile": 90, "ttft_s": 0.5, "tpot_s": 0.05}, {"percentile": 90, "tpot_s": 0.1}, True),
    ],
)
def test_an_objective_holds_when_the_measured_one_implies_it(
    measured: dict[str, Any], wanted: dict[str, Any], expected: bool
) -> None:
    """A latency objective counts as met only when a measured one is at least as strict."""
    assert satisfies(SloSpec(**measured), SloSpec(**wanted)) == expected
    assert not satisfies(None, SloSpec(**wanted))
