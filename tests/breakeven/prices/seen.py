"""The prices that were seen in the packages on 2026-11-23 (economics.md, Prices), and ways to look them up."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from click.testing import CliRunner, Result

from tokenhour.breakeven.cli import cli
from tokenhour.breakeven.prices.tables import in_force
from tokenhour.contracts.config.prices import ApiPrice

ON = dt.date(2026, 11, 24)
LITELLM = Path(__file__).parents[1] / "litellm.json"
GENAI = Path(__file__).parents[1] / "genai_prices.json"
PRICES = Path("configs/prices")
SEEN = {
    ("gpt-4o-mini", "openai"): (".15", ".60", ".075"),
    ("gpt-5-mini", "openai"): (".25", "2.00", ".025"),
    ("gpt-5.4-mini", "openai"): (".75", "4.50", ".075"),
    ("claude-haiku-4-5", "anthropic"): ("1", "5", ".10"),
    ("claude-haiku-5-5", "anthropic"): (".10", ".50", ".01"),
    ("gemini-3.1-flash-lite", "google"): (".25", "1.50", ".025"),
    ("gemini-3.8-flash", "google"): (".75", "3.75", None),
    ("llama-3.1-8b-instruct", "bedrock"): (".22", ".22", None),
    ("llama-3.1-8b-instruct", "groq"): (".05", ".08", None),
    ("llama-3.1-8b-instruct", "novita"): (".02", ".05", None),
    ("llama-3.3-70b-instruct", "bedrock"): (".72", ".72", None),
}


def row(rows: Sequence[ApiPrice], model: str, host: str, on: dt.date = ON) -> ApiPrice | None:
    """Return the price of a model at a host that is in force on a day."""
    return in_force([r for r in rows if (r.model, r.host) == (model, host)], on)


def agrees(found: ApiPrice | None, expected: tuple[str | None, ...]) -> None:
    """Assert that input, output and, where known, cached prices are as expected."""
    into, out, cached = (Decimal(x) if x else None for x in expected)
    assert (found.input, found.output) == (into, out)
    assert cached is None or found.cache_read == cached


def run(*arguments: str) -> Result:
    """Run the prices command with these arguments."""
    return CliRunner().invoke(cli, ["prices", *arguments], catch_exceptions=False)
