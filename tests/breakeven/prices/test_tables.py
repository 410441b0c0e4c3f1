"""Prices are chosen by model, host and date; the shipped tables agree with what was read in the sources."""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from tokenhour.breakeven.prices.tables import (
    Mix,
    api_price,
    blended_usd_per_mtok,
    hourly_usd,
    instance_price,
    load_tables,
    request_usd,
)
from tokenhour.contracts.config.prices import ApiPrice
from tokenhour.contracts.errors import InputError

TODAY = dt.date(2026, 11, 24)
TABLES = load_tables(Path("configs/prices"))


def price(model: str, host: str, on: dt.date = TODAY) -> ApiPrice:
    """Return the shipped price of a model at a host that is in force on a day."""
    return api_price(TABLES, model, host, on)


def test_the_tables_hold_enough_rows_of_every_kind() -> None:
    """The shipped tables cover the common GPUs, CPUs, APIs and clouds, each row with its source."""
    assert len({(row.model, row.host) for row in TABLES.apis}) >= 12
    assert {"T4", "L4", "A10G", "L40S", "A100-80", "H100", "H200", "B200", "MI300X"} <= {
        r.accelerator for r in TABLES.instances
    }
    assert len([row for row in TABLES.instances if row.kind == "cpu"]) >= 2
    minis = {r.host for r in TABLES.apis if not r.model.startswith("llama")}
    assert {"openai", "anthropic", "google"} <= minis, "closed minis"
    assert len({r.host for r in TABLES.apis if r.model.startswith("llama")}) >= 4, "hosts of open weights"
    assert len({r.cloud for r in TABLES.instances if r.kind == "cuda"}) >= 4
    for row in [*TABLES.apis, *TABLES.instances]:
        assert row.model_dump()["source"]
        assert row.model_dump()["source_url"].startswith("https://")


def test_cached_input_is_billed_as_cache_reads() -> None:
    """genai-prices: 2M in (0.5M cached) + 1M out on gpt-4o-mini = $0.8625."""
    assert request_usd(price("gpt-4o-mini", "openai"), Mix(2e6, 1e6, cached_share=0.25)) == pytest.approx(0.8625)


@pytest.mark.parametrize(
    ("on", "usd"),
    [(dt.date(2026, 12, 1), 4.50), (dt.date(2026, 12, 31), 4.50), (dt.date(2027, 1, 1), 9.0), (dt.date(2027, 2, 1), 9.0)],
)
def test_a_future_price_begins_on_its_day(on: dt.date, usd: float) -> None:
    """genai-prices: gemini-3.8-flash, 1M + 1M."""
    assert request_usd(price("gemini-3.8-flash", "google", on), Mix(1e6, 1e6)) == pytest.approx(usd)


def test_the_context_tier_is_that_of_the_request() -> None:
    """The long-context price starts with the first token above the limit, and covers the whole request."""
    row = price("claude-haiku-5-5", "anthropic")
    assert request_usd(row, Mix(100_000, 0)) == pytest.approx(0.01)
    assert request_usd(row, Mix(100_001, 0)) == pytest.approx(0.0500005)


def test_batch_factors_are_applied_for_the_batch_share_only() -> None:
    """The batch discount applies only to the share of requests sent in batches."""
    row = price("gpt-4o-mini", "openai")
    assert request_usd(row, Mix(1e6, 1e6, batch_share=1.0)) == pytest.approx(0.375)
    assert request_usd(row, Mix(1e6, 1e6, batch_share=0.5)) == pytest.approx(0.5625)


def test_the_blended_price_lies_between_input_and_output_price() -> None:
    """The blended price weighs input and output prices by their tokens."""
    row = price("gpt-4o-mini", "openai")
    assert blended_usd_per_mtok(row, Mix(512, 256)) == pytest.approx((2 * 0.15 + 0.60) / 3)


def test_decimals_are_exact_as_written() -> None:
    """Prices keep the exact decimal value of the table, free of rounding by floating point."""
    assert price("gpt-4o-mini", "openai").output == Decimal("0.6")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: price("gpt-4o-min", "openai"), "did you mean gpt-4o-mini at openai"),
        (lambda: price("gpt-5-mini", "openai", dt.date(2026, 12, 11)), "ended on 2026-12-11"),
        (lambda: request_usd(price("llama-3.1-8b-instruct", "groq"), Mix(1, 1, cached_share=0.1)), "no cache_read price"),
        (lambda: request_usd(price("llama-3.1-8b-instruct", "groq"), Mix(1, 1, batch_share=0.1)), "no batch price"),
        (lambda: instance_price(TABLES, "c7i.larg", "aws", None, TODAY), "c7i.large at aws"),
        (lambda: hourly_usd(instance_price(TABLES, "c7i.large", "aws", None, TODAY), "spot"), "it has: on_demand"),
    ],
)
def test_a_price_that_is_not_there_is_an_error_that_helps(call: Callable[[], object], said: str) -> None:
    """A missing price is an error that names the nearest row, the reason or the options that exist."""
    with pytest.raises(InputError, match=said.replace(".", r"\.")):
        call()


def test_a_row_without_a_date_must_say_that_its_source_is_undated(tmp_path: Path) -> None:
    """A price without a date is rejected unless its source is declared as undated."""
    text = Path("configs/prices/api.yaml").read_text().replace("(undated snapshot)", "")
    (tmp_path / "api.yaml").write_text(text)
    with pytest.raises(InputError, match="must say that the source is undated"):
        load_tables(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [("input: 0.15", "input: -0.15", "greater than or equal"), ("input: 0.15", "input: .nan", "finite")],
)
def test_a_negative_or_missing_number_is_named_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    """An invalid number in a price table is rejected with its file, line and field."""
    (tmp_path / "api.yaml").write_text(Path("configs/prices/api.yaml").read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=said) as caught:
        load_tables(tmp_path)
    assert "api.yaml:8" in caught.value.where
    assert "prices[0].input" in caught.value.what


def test_a_price_that_was_chosen_from_a_range_says_so() -> None:
    """A price picked from a published range says which range, so readers can judge the choice."""
    (row,) = [r for r in TABLES.instances if (r.instance, r.cloud) == ("A100-80_1x", "crusoe")]
    assert row.on_demand == Decimal("1.65")
    assert "range of 1.65 to 1.95" in row.source
