"""Today's volume and mix: said, logged or measured."""

import json
from pathlib import Path

import pytest

from tests.breakeven.scenarios import DAY, decide, scenario
from tokenhour.contracts.errors import InputError


def test_requests_and_tokens_are_two_ways_to_say_a_volume() -> None:
    """The volume can be given in requests or in tokens, with the same result."""
    by_tokens, by_requests = decide(), decide(scenario(tokens_per_month=None, requests_per_month=5e9 / 768))
    assert by_requests.tokens_per_month == pytest.approx(by_tokens.tokens_per_month)
    assert by_requests.traffic.requests_per_month == pytest.approx(by_tokens.traffic.requests_per_month)


def test_an_imported_log_gives_volume_mix_cache_and_shape(tmp_path: Path) -> None:
    """An imported log supplies volume, mix and cache share, and explicit values override it."""
    log = {
        "record": "traffic",
        "version": 1,
        "source": "a log",
        "hourly_share": [w / sum(DAY) / 7 for w in DAY * 7],
        "hours_observed": 168,
        "requests": 1000,
        "requests_per_month": 4e6,
        "tokens": {"prompt": 500.0, "cached": 100.0, "completion": 260.0},
        "peak_to_mean": max(DAY) / (sum(DAY) / 24),
        "first_utc": None,
        "last_utc": None,
    }
    file = tmp_path / "traffic.json"
    file.write_text(json.dumps(log))
    found = decide(scenario(tokens_per_month=None, profile={"file": str(file)}))
    assert found.tokens_per_month == pytest.approx(4e6 * 760)
    assert (found.traffic.prompt_tokens, found.traffic.cached_share) == (500, 0.2)
    assert found.traffic.volume_badge == found.traffic.mix_badge == "measured"
    mix = found.runs[0].comparisons[0].blended_usd_per_mtok
    assert mix == pytest.approx((500 * (0.8 * 0.15 + 0.2 * 0.075) + 260 * 0.6) / 760)
    said = decide(scenario(tokens_per_month=1e9, cached_share=0.0, profile={"file": str(file)}))
    assert (said.tokens_per_month, said.traffic.cached_share) == (1e9, 0.0)


def test_an_api_without_a_batch_tier_is_an_error_until_it_is_said_that_it_pays_full() -> None:
    """A missing batch price is an error until the user says that this API bills in full."""
    groq = {"model": "llama-3.1-8b-instruct", "host": "groq"}
    with pytest.raises(InputError, match="no batch price") as caught:
        decide(scenario(apis=[groq], batch_share=0.5))
    assert "batch_share: 0" in caught.value.remedy
    assert decide(scenario(apis=[{**groq, "batch_share": 0}], batch_share=0.5)).runs
