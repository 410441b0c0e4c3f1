"""Scenarios and experiments with round figures, and ways to solve them, most of them without files."""

import copy
import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.breakeven.summaries import EXPERIMENT
from tokenhour.breakeven.prices.tables import Tables, load_tables
from tokenhour.breakeven.stage import question, run
from tokenhour.breakeven.verdict import verdict
from tokenhour.contracts.config.experiment import Experiment
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
MONTH = 730.0
FEATURES = [
    {"name": "chat", "requests_per_month": 30e6, "prompt_tokens": 700, "output_tokens": 300},
    {"name": "small", "requests_per_month": 1000, "prompt_tokens": 100, "output_tokens": 50},
    {
        "name": "voice",
        "requests_per_month": 1e6,
        "prompt_tokens": 300,
        "output_tokens": 60,
        "slo": {"percentile": 90, "ttft_s": 0.1},
    },
    {"name": "law", "requests_per_month": 1e6, "prompt_tokens": 900, "output_tokens": 60, "self_hostable": False},
]
SPOT = {"interruptions_per_hour": 0.05, "checkpoint_interval_h": 1.0, "restart_h": 0.2, "checkpoint_cost_h": 0.02}
TRAINING = {"training_usd": 1000, "requests_per_month": 1e6, "usd_per_million_requests": 100}
COMMIT = {"options": [{"instance": "H100_1x", "cloud": "verda", "reserved_usd_per_hour": 1.5}]}
EVERYTHING: dict[str, Any] = {
    "portfolio": FEATURES,
    "levers": [{"lever": "caching", "low": 0.1, "high": 0.2, "source": "a test"}],
    "spot": SPOT,
    "commitments": COMMIT,
    "training": TRAINING,
    "efficiency": {"unit": "ticket", "value_usd_per_unit": 0.95},
}


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


def asked(schemes: Sequence[str] | None = None, **economics: Any) -> Experiment:
    """Return the golden experiment with another economics section."""
    data = EXPERIMENT.model_dump(mode="json", exclude_defaults=True)
    data["economics"] |= economics
    return type(EXPERIMENT).model_validate(data | ({"schemes": schemes} if schemes else {}))


def solve(results: Path, experiment: Experiment = EXPERIMENT, **options: Any) -> Verdict:
    """Solve an experiment with the shipped prices."""
    return run(experiment, results, PRICES, **{"allow_invalid": False, **options})[0]


def aged(folder: Path, table: str, key: str, checked_on: dt.date) -> Tables:
    """Write the price tables with one row that was last checked on another day."""
    folder.mkdir()
    for name in ("api.yaml", "instances.yaml"):
        text = (PRICES / name).read_text()
        if name == table:
            start = text.index(key)
            line = text.index("checked_on: ", start)
            text = text[:line] + f"checked_on: {checked_on}" + text[line + len("checked_on: 2026-11-23") :]
        (folder / name).write_text(text)
    return load_tables(folder)
