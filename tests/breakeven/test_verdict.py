"""The verdict: figures that can be checked by hand, and golden files."""

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.breakeven.scenarios import aged, asked, decide, scenario, solve
from tests.breakeven.summaries import write_all
from tokenhour.contracts.records.verdict import Verdict

GOLDEN = Path("tests/golden")


def test_the_figures_follow_from_the_inputs_by_hand(tmp_path: Path) -> None:
    """2.7M tokens an hour at the SLO x 0.8 x 730 h; $0.08925/h x 730 h; gpt-4o-mini at 2:1 is $0.30 per M."""
    write_all(tmp_path)
    first = solve(tmp_path).runs[0]
    capacity, month = 2.7e6 * 0.8 * 730, 0.08925 * 730
    assert first.capacity_tokens_per_month == pytest.approx(capacity)
    openai = first.comparisons[0]
    assert openai.blended_usd_per_mtok == pytest.approx(0.30)
    assert openai.first_tokens_per_month == pytest.approx(month / 0.30e-6)
    assert openai.utilization_at_breakeven == pytest.approx(month / 0.30e-6 / capacity)
    assert first.cost_today.total == pytest.approx(month * math.ceil(1e9 / capacity))
    assert first.output_usd_per_mtok == pytest.approx(0.08925 / 3600 / (400 / 4 + 200) * 1e6)


def test_the_golden_verdict(tmp_path: Path) -> None:
    """Written once; a change of any figure must be meant. Hashes, times and wordings are left out."""
    write_all(tmp_path)
    short = {"horizon_months": 3, "uncertainty": {"draws": 200}, "on_date": "2026-11-24"}
    found = json.loads(solve(tmp_path, asked(schemes=["none", "w8a8"], **short)).to_json())
    golden = json.loads((GOLDEN / "verdict-v2.json").read_text())
    figures = ("sentence", "recommendation", "best_run", "tokens_per_month", "runs", "traffic", "recompute_by")
    assert {k: _rounded(found[k]) for k in figures} == {k: _rounded(golden[k]) for k in figures}


@pytest.mark.parametrize("version", [1, 2])
def test_goldens_of_every_version_stay_readable(version: int) -> None:
    """Verdicts written by earlier releases can still be read."""
    found = Verdict.read(GOLDEN / f"verdict-v{version}.json")
    assert found.version == version
    assert found.runs[0].comparisons
    assert (found.economics is None) == (version == 1)


def test_figures_of_version_1_have_not_moved(tmp_path: Path) -> None:
    """What version 1 said of the same inputs is what version 2 says."""
    write_all(tmp_path)
    old, new = Verdict.read(GOLDEN / "verdict-v1.json"), solve(tmp_path)
    for was, now in zip(old.runs, new.runs, strict=True):
        for a, b in zip(was.comparisons, now.comparisons, strict=True):
            assert (b.outcome, b.wins_today) == (a.outcome, a.wins_today)
            assert b.blended_usd_per_mtok == pytest.approx(a.blended_usd_per_mtok)
            assert [w.above for w in b.windows] == pytest.approx([w.above for w in a.windows])
            assert b.hybrid.usd_per_month == pytest.approx(a.hybrid.usd_per_month)
            assert b.utilization_at_breakeven == pytest.approx(a.utilization_at_breakeven)
        assert now.cost_today.total == pytest.approx(was.cost_today.total)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def test_a_price_that_comes_into_force_within_the_horizon_counts_too(tmp_path: Path) -> None:
    """The age of an announced price limits the verdict's validity if it starts within the horizon."""
    tables = aged(tmp_path / "prices", "api.yaml", "effective_from: 2027-01-01", dt.date(2026, 11, 1))
    gemini = [{"model": "gemini-3.8-flash", "host": "google"}]
    assert decide(scenario(apis=gemini), tables).recompute_by == dt.date(2027, 3, 1)
    assert decide(scenario(apis=gemini, horizon_months=1), tables).recompute_by == dt.date(2027, 3, 23)
