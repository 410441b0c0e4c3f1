"""The calculators answer without a file."""

import json

import pytest
from click.testing import CliRunner

from tokenhour.breakeven.cli import cli


def test_the_quick_calculators_answer_in_json() -> None:
    """The calculators for crossings and token cost answer in JSON without needing any run."""
    done = CliRunner().invoke(
        cli, ["crossings", "--replica-usd", "1000", "--replica-tokens", "1e9", "--api-usd-per-mtok", "1.3", "--json"]
    )
    answer = json.loads(done.stdout)
    assert answer["first_tokens_per_month"] == pytest.approx(1000 / 1.3e-6)
    assert answer["outcome"] == "first"
    done = CliRunner().invoke(cli, ["token-cost", "--usd-per-hour", "6.98", "--output-tps", "2464.4", "--json"])
    assert json.loads(done.stdout)["output_usd_per_mtok"] == pytest.approx(0.7867, rel=2e-4)
