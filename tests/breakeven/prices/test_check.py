"""Prices that are old, doubled, ending or disputed are found."""

import datetime as dt
from pathlib import Path

import pytest

from tests.breakeven.prices.seen import LITELLM, ON, PRICES, row, run
from tokenhour.breakeven.prices.check import disagreement, findings
from tokenhour.breakeven.prices.from_litellm import from_litellm
from tokenhour.breakeven.prices.tables import load_tables
from tokenhour.contracts.config.prices import ApiPrice
from tokenhour.contracts.errors import RunFailedError


def test_a_disagreement_above_5_percent_is_reported(genai: list[ApiPrice], litellm: list[ApiPrice]) -> None:
    """Llama 3.1 8B at Fireworks: .20/.20 in one source, .10/.10 in the other; 3.3 70B at Together: .88 against 1.04."""
    for model, host in (("llama-3.1-8b-instruct", "fireworks"), ("llama-3.3-70b-instruct", "together")):
        assert disagreement(row(genai, model, host), row(litellm, model, host))
    assert not disagreement(row(genai, "gpt-4o-mini", "openai"), row(litellm, "gpt-4o-mini", "openai"))
    found = findings(load_tables(PRICES), [*genai, *litellm], ON, 120)
    disputed = {f.row for f in found if f.kind == "disagreement"}
    assert disputed == {"llama-3.1-8b-instruct at fireworks", "llama-3.3-70b-instruct at together"}


def test_our_tables_agree_with_the_package_that_they_were_read_from(genai: list[ApiPrice]) -> None:
    """The shipped price tables do not contradict the package they were taken from."""
    found = findings(load_tables(PRICES), genai, ON, 120)
    assert [f for f in found if f.kind == "disagreement"] == []


def test_the_check_finds_old_doubled_ending_and_disputed_rows(tmp_path: Path) -> None:
    """The price check fails on rows that are old, doubled, ending or disputed, before they mislead a verdict."""
    prices = tmp_path / "prices"
    prices.mkdir()
    (prices / "instances.yaml").write_text(
        (PRICES / "instances.yaml").read_text().replace("checked_on: 2026-10-05", "checked_on: 2026-01-05")
    )
    text = (PRICES / "api.yaml").read_text()
    first = text[text.index("  - model: gpt-4o-mini") : text.index("  - model: gpt-5-mini")]
    (prices / "api.yaml").write_text(text + first)
    found = findings(load_tables(prices), list(from_litellm(LITELLM, ON)), ON, 120)
    kinds = {f.kind for f in found}
    assert {"old", "twice", "ends soon", "disagreement"} <= kinds
    assert "ended" in {f.kind for f in findings(load_tables(prices), [], dt.date(2026, 12, 12), 400)}
    with pytest.raises(RunFailedError, match="prices to check"):
        run("check", "--prices", str(prices))
    assert run("check", "--max-age-days", "36500").exit_code == 0
