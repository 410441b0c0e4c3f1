"""One run beside one API: what the API bills, and where its own side wins."""

from pathlib import Path

import pytest

from tests.breakeven.scenarios import PRICES, decide, scenario, solve
from tests.breakeven.summaries import write_all
from tokenhour.breakeven.prices.tables import load_tables


def test_each_kind_of_request_has_its_own_context_tier() -> None:
    """claude-haiku-5-5 costs five times as much above 100k: a mean of 75k would hide half of the requests there."""
    apis = [{"model": "claude-haiku-5-5", "host": "anthropic"}]
    kinds = [
        {"share": 1, "prompt_tokens": 149_000, "output_tokens": 1000},
        {"share": 1, "prompt_tokens": 1000, "output_tokens": 1000},
    ]
    found = decide(scenario(apis=apis, request_classes=kinds)).runs[0].comparisons[0]
    usd = (149e3 * 0.5 + 1000 * 2.5 + 1000 * 0.1 + 1000 * 0.5) / 1e6
    assert found.blended_usd_per_mtok == pytest.approx(usd / (152e3 / 1e6))


def test_a_tokenizer_ratio_makes_an_api_dearer_and_its_tiers_come_sooner() -> None:
    """An API whose tokenizer makes more tokens of a text costs more, and reaches its context tiers earlier."""
    ratio = {"model": "claude-haiku-5-5", "host": "anthropic", "tokens_ratio": 1.25}
    plain = {"model": "claude-haiku-5-5", "host": "anthropic"}
    asked = scenario(apis=[ratio, plain], prompt_tokens=90_000, output_tokens=100)
    with_ratio, without = decide(asked).runs[0].comparisons
    assert with_ratio.blended_usd_per_mtok == pytest.approx((90e3 * 1.25 * 0.5 + 125 * 2.5) / 90.1e3)
    assert without.blended_usd_per_mtok == pytest.approx((90e3 * 0.1 + 100 * 0.5) / 90.1e3)


def test_cached_written_and_batch_tokens_have_their_own_prices() -> None:
    """Cache reads, cache writes and batch requests are each billed at their own price."""
    apis = [{"model": "claude-haiku-4-5", "host": "anthropic"}]
    found = decide(scenario(apis=apis, cached_share=0.5, cache_write_share=0.25)).runs[0].comparisons[0]
    usd = 512 * (0.25 * 1 + 0.5 * 0.1 + 0.25 * 1.25) + 256 * 5
    assert found.blended_usd_per_mtok == pytest.approx(usd / 768)
    found = decide(scenario(apis=apis, batch_share=0.4)).runs[0].comparisons[0]
    assert found.blended_usd_per_mtok == pytest.approx((512 + 256 * 5) / 768 * (0.6 + 0.4 * 0.5))


@pytest.mark.parametrize("usd", [1e15, 1e300])
def test_costs_beyond_any_fleet_are_answered_at_once(usd: float) -> None:
    """Absurdly high fixed costs are answered as beyond capacity."""
    apis = [{"model": "claude-haiku-4-5", "host": "anthropic"}]
    assert decide(scenario(apis=apis, ops_usd_per_month=usd)).runs[0].comparisons[0].outcome == "beyond_capacity"


def test_a_free_api_is_never_beaten(tmp_path: Path) -> None:
    """An API that costs nothing always wins, and no figure is divided by its price."""
    for name in ("api.yaml", "instances.yaml"):
        text = (PRICES / name).read_text().replace("input: 0.15", "input: 0").replace("output: 0.6\n", "output: 0\n")
        (tmp_path / name).write_text(text)
    free = (
        decide(scenario(efficiency={"unit": "answer", "value_usd_per_unit": 1}), load_tables(tmp_path))
        .runs[0]
        .comparisons[0]
    )
    assert (free.outcome, free.api_usd_per_month, free.hybrid.base_replicas) == ("never", 0, 0)
    assert (free.monte_carlo.win_probability, free.efficiency.api_ratio) == (0, None)


def test_an_api_that_is_cheaper_than_a_full_machine_is_never_beaten(tmp_path: Path) -> None:
    """An API below the cost of a full machine gets no break-even and no replicas."""
    write_all(tmp_path)
    novita = solve(tmp_path).runs[0].comparisons[2]
    assert (novita.outcome, novita.first_tokens_per_month, novita.windows) == ("never", None, ())
    assert novita.hybrid.base_replicas == 0


def test_a_wider_interval_of_capacity_moves_only_what_depends_on_it(tmp_path: Path) -> None:
    """The interval around break-even contains the break-even that is stated."""
    write_all(tmp_path)
    groq = solve(tmp_path).runs[2].comparisons[1]
    assert groq.first_interval.low <= groq.first_tokens_per_month
    assert groq.first_interval.high is None or groq.first_interval.high >= groq.first_tokens_per_month
