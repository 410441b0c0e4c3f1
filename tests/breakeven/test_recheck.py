"""Past verdicts at other prices: which flip, which stand, and which cannot be said."""

import datetime as dt
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.breakeven.scenarios import DAY, ON, PRICES, decide, scenario, solve
from tests.breakeven.summaries import write_all
from tokenhour.breakeven.cli import cli
from tokenhour.breakeven.prices.tables import load_tables
from tokenhour.breakeven.recheck import recheck
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.verdict import Verdict

LATER = dt.date(2027, 2, 1)


def test_at_the_same_prices_every_figure_is_found_again(tmp_path: Path) -> None:
    """With a profile, a mix of its own and a fleet that follows demand; and on measured runs."""
    asked = scenario(profile={"hours": DAY}, scaling="autoscale", prompt_tokens=600, cached_share=0.1, redundancy=1)
    write_all(tmp_path)
    for past in (decide(asked), solve(tmp_path)):
        for row in recheck(past, load_tables(PRICES), ON):
            assert (row.won, row.problem) == (row.wins, "")
            assert row.first_now == (pytest.approx(row.first_then, rel=1e-9) if row.first_then else None)
            assert not row.flips


def test_a_verdict_that_a_new_price_turns_is_named() -> None:
    """gemini-3.8-flash costs twice as much from 2027: at this volume one's own wins then."""
    apis = [{"model": "gemini-3.8-flash", "host": "google"}, {"model": "gpt-4o-mini", "host": "openai"}]
    past = decide(scenario(apis=apis, tokens_per_month=1.5e9, ops_usd_per_month=1200))
    assert not past.runs[0].comparisons[0].wins_today
    gemini, mini = recheck(past, load_tables(PRICES), LATER)
    assert gemini.flips
    assert gemini.first_now == pytest.approx(gemini.first_then / 2)
    assert not mini.flips


def test_a_model_that_has_ended_is_said_and_hides_no_other() -> None:
    """A withdrawn model is reported as such, and the other comparisons are still rechecked."""
    apis = [{"model": "gpt-5-mini", "host": "openai"}, {"model": "gpt-4o-mini", "host": "openai"}]
    gone, there = recheck(decide(scenario(apis=apis)), load_tables(PRICES), LATER)
    assert "ended on 2026-12-11" in gone.problem
    assert (gone.wins, gone.flips) == (None, False)
    assert there.wins is not None


def test_an_old_verdict_says_that_it_must_be_solved_again() -> None:
    """Verdicts of version 1 cannot be rechecked, and say that they need solving again."""
    rows = list(recheck(Verdict.read(Path("tests/golden/verdict-v1.json")), load_tables(PRICES), ON))
    assert rows
    assert all("solve it again" in row.problem for row in rows)


def test_the_shell_looks_through_all_results(tmp_path: Path) -> None:
    """The recheck command reads every verdict below a folder and changes no file."""
    write_all(tmp_path)
    solve(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(cli, ["recheck", str(tmp_path), "--on", "2026-11-24"], catch_exceptions=False)
    assert "0 of 12 comparisons flip" in done.stdout
    rows = json.loads(CliRunner().invoke(cli, ["recheck", str(tmp_path / "golden"), "--on", "2026-11-24", "--json"]).stdout)
    assert len(rows) == 12
    assert {"experiment", "run", "api", "won", "wins", "flips"} <= set(rows[0])
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(InputError, match="no verdict is here"):
        CliRunner().invoke(cli, ["recheck", str(tmp_path / "none")], catch_exceptions=False)
