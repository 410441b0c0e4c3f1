"""A verdict's own numbers, computed with again."""

from pathlib import Path
from typing import Any

import pytest

from tests.breakeven.scenarios import DAY, decide, scenario
from tokenhour.breakeven.solve.from_verdict import plants, position
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.verdict import Verdict

OLD = Path("tests/golden/verdict-v1.json")
LOADED: dict[str, Any] = {
    "profile": {"hours": DAY}, "scaling": "autoscale", "redundancy": 1, "ops_share": 0.15, "ops_usd_per_month": 40,
    "engineering_usd_per_month": 100, "storage_usd_per_month": 3, "egress_usd_per_month": 2, "setup_usd": 900,
}  # fmt: skip


@pytest.mark.parametrize("version", [1, 2])
def test_the_numbers_of_a_verdict_give_its_bills_again(version: int) -> None:
    """Plots and the explorer compute what was solved, with a fleet that follows demand and with an old verdict's."""
    found = Verdict.read(OLD) if version == 1 else decide(scenario(**LOADED))
    for run in found.runs:
        at = position(found, run)
        assert at.self_host_usd(at.tokens) == pytest.approx(run.cost_today.total)


def test_a_verdict_of_version_1_cannot_be_solved_again() -> None:
    """It does not keep all inputs, and says so."""
    with pytest.raises(InputError, match="version 1"):
        plants(Verdict.read(OLD))
