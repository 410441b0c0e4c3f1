"""The rows of the price tables that a question stands on."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from tests.breakeven.scenarios import aged, decide, scenario
from tokenhour.contracts.errors import InputError

FEATURE = {"name": "law", "requests_per_month": 1e6, "prompt_tokens": 900, "output_tokens": 60}
HAIKU = {"model": "claude-haiku-4-5", "host": "anthropic"}
MINI = [{"model": "gpt-4o-mini", "host": "openai"}]
LAMBDA = {"options": [{"instance": "H100_8x", "cloud": "lambda", "reserved_usd_per_hour": 20.0}]}


def test_a_machine_is_found_by_its_accelerator_too() -> None:
    """Users can name a GPU instead of an instance type."""
    assert decide(scenario(hardware="H100")).runs[0].instance.instance == "H100_1x"


@pytest.mark.parametrize(
    ("table", "key", "part"),
    [
        ("api.yaml", "model: claude-haiku-4-5", {"portfolio": [{**FEATURE, **HAIKU}]}),
        ("instances.yaml", "instance: H100_8x", {"commitments": LAMBDA}),
    ],
)
def test_a_price_that_only_a_wider_question_uses_has_its_say_in_recompute_by(
    tmp_path: Path, table: str, key: str, part: dict[str, Any]
) -> None:
    """And it is refused like any other when it is too old."""
    old = dt.date(2026, 10, 1)
    tables = aged(tmp_path / "prices", table, key, old)
    assert decide(scenario(apis=MINI), tables).recompute_by == dt.date(2026, 11, 23) + dt.timedelta(days=120)
    assert decide(scenario(apis=MINI, **part), tables).recompute_by == old + dt.timedelta(days=120)
    found = decide(scenario(apis=MINI, recompute_after_days=30, **part), tables)
    assert any("last checked on 2026-10-01" in warning for warning in found.warnings)
    with pytest.raises(InputError, match="last checked on 2026-10-01") as caught:
        decide(scenario(apis=MINI, max_price_age_days=50, **part), tables)
    assert table in caught.value.where
