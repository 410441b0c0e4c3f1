"""Scenarios with round figures, and a way to solve them without files."""

import copy
import datetime as dt
from pathlib import Path
from typing import Any

from tokenhour.breakeven.prices.tables import Tables, load_tables
from tokenhour.breakeven.stage import question
from tokenhour.breakeven.verdict import verdict
from tokenhour.contracts.config.scenario import Scenario
from tokenhour.contracts.records.verdict import Verdict

PRICES = Path("configs/prices")
ON = dt.date(2026, 11, 24)
BASE: dict[str, Any] = {
    "record": "scenario",
    "version": 1,
    "name": "round",
    "assumed": {
        "name": "a model",
        "source": "a test",
        "input_tokens_per_hour": 2_000_000,
        "output_tokens_per_hour": 1_000_000,
        "prompt_tokens": 512,
        "output_tokens": 256,
        "cold_start_s": 360,
        "slo": {"percentile": 90, "ttft_s": 1.0},
    },
    "economics": {
        "hardware": "H100_1x",
        "cloud": "verda",
        "apis": [{"model": "gpt-4o-mini", "host": "openai"}, {"model": "claude-haiku-4-5", "host": "anthropic"}],
        "tokens_per_month": 5e9,
        "on_date": "2026-11-24",
        "uncertainty": {"draws": 500},
    },
}
DAY = [1, 1, 1, 1, 1, 2, 4, 8, 14, 18, 20, 20, 18, 19, 20, 19, 16, 12, 8, 5, 3, 2, 1, 1]


def scenario(assumed: dict[str, Any] | None = None, **economics: Any) -> Scenario:
    """Return the round scenario with changes; None takes a field away."""
    data = copy.deepcopy(BASE)
    data["assumed"] |= assumed or {}
    data["economics"] |= economics
    data["economics"] = {k: v for k, v in data["economics"].items() if v is not None}
    return Scenario.model_validate(data)


def decide(asked: Scenario | None = None, tables: Tables | None = None, on: dt.date = ON, **economics: Any) -> Verdict:
    """Return the verdict of a scenario."""
    asked = asked or scenario(**economics)
    found = question(asked, [], Path("results"), tables or load_tables(PRICES), on)
    return verdict(found, created_utc="", allowed_invalid=False)
