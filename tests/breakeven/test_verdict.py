"""The verdict: figures that can be checked by hand, refusals, reuse, and a golden file."""

import datetime as dt
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.breakeven.scenarios import decide, scenario
from tests.breakeven.summaries import EXPERIMENT, LAG, hour, summary, write_all
from tokenhour.breakeven.cli import cli
from tokenhour.breakeven.prices.tables import Tables, load_tables
from tokenhour.breakeven.stage import preflight, run
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import Verdict

PRICES = Path("configs/prices")
GOLDEN = Path("tests/golden")


def asked(schemes: Sequence[str] | None = None, **economics: Any) -> Experiment:
    """Return the golden experiment with another economics section."""
    data = EXPERIMENT.model_dump(mode="json", exclude_defaults=True)
    data["economics"] |= economics
    return type(EXPERIMENT).model_validate(data | ({"schemes": schemes} if schemes else {}))


def solve(results: Path, experiment: Experiment = EXPERIMENT, **options: Any) -> Verdict:
    """Solve an experiment with the shipped prices."""
    return run(experiment, results, PRICES, **{"allow_invalid": False, **options})[0]


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


def test_an_api_that_is_cheaper_than_a_full_machine_is_never_beaten(tmp_path: Path) -> None:
    """An API below the cost of a full machine gets no break-even and no replicas."""
    write_all(tmp_path)
    novita = solve(tmp_path).runs[0].comparisons[2]
    assert (novita.outcome, novita.first_tokens_per_month, novita.windows) == ("never", None, ())
    assert novita.hybrid.base_replicas == 0


def test_a_wider_interval_of_capacity_moves_only_what_depends_on_it(tmp_path: Path) -> None:
    """The interval around break-even contains the break-even that is stated."""
    write_all(tmp_path)
    groq = solve(tmp_path).runs[2].comparisons[1]
    assert groq.first_interval.low <= groq.first_tokens_per_month
    assert groq.first_interval.high is None or groq.first_interval.high >= groq.first_tokens_per_month


def test_the_same_inputs_give_the_verdict_that_stands(tmp_path: Path) -> None:
    """Solving again with unchanged inputs reuses the verdict on disk."""
    write_all(tmp_path)
    one, reused_first = run(EXPERIMENT, tmp_path, PRICES, allow_invalid=False)
    two, reused_second = run(EXPERIMENT, tmp_path, PRICES, allow_invalid=False)
    assert (reused_first, reused_second) == (False, True)
    assert one == two


def test_a_changed_price_table_gives_a_new_verdict_and_keeps_the_old(tmp_path: Path) -> None:
    """A changed price leads to a new verdict, and the earlier one is kept for the record."""
    write_all(tmp_path)
    solve(tmp_path)
    prices = tmp_path / "prices"
    prices.mkdir()
    for name in ("api.yaml", "instances.yaml"):
        (prices / name).write_text((PRICES / name).read_text().replace("on_demand: 0.08925", "on_demand: 0.1785"))
    found, reused = run(EXPERIMENT, tmp_path, prices, allow_invalid=False)
    assert not reused
    assert found.runs[0].replica_usd_per_hour == pytest.approx(0.1785)
    assert (tmp_path / "golden/superseded/1/verdict.json").is_file()


def test_an_invalid_measurement_gives_no_figure_unless_asked_for(tmp_path: Path) -> None:
    """Invalid measurements are rejected without writing anything, or allowed with a warning."""
    write_all(tmp_path, validity="INVALID", reasons=(LAG,))
    with pytest.raises(RunFailedError, match="client lag"):
        solve(tmp_path)
    assert not (tmp_path / "golden").exists()
    found = solve(tmp_path, allow_invalid=True)
    assert found.allowed_invalid
    assert any("INVALID" in warning for warning in found.warnings)


def test_one_invalid_run_of_several_is_left_out_and_named(tmp_path: Path) -> None:
    """One invalid run is left out of the verdict and named with its reason."""
    *_, last = write_all(tmp_path)
    (tmp_path / last.run / Summary.file_name).unlink()
    last.model_copy(update={"validity": "INVALID", "reasons": (LAG,)}).write(tmp_path / last.run)
    found = solve(tmp_path)
    valid, invalid = found.runs[:-1], found.runs[-1]
    assert all(r.comparisons for r in valid)
    assert (invalid.validity, invalid.comparisons, invalid.output_usd_per_mtok) == ("INVALID", (), None)
    assert any(f"{last.run} is INVALID: client lag" in warning for warning in found.warnings)
    assert last.run not in found.sentence


def test_a_run_that_met_the_slo_at_no_rate_has_no_dollar_figure(tmp_path: Path) -> None:
    """A run without capacity at the SLO gets no price, as there is nothing to divide the cost by."""
    for one in (summary("none", at_slo=None), summary("w8a8", at_slo=None), summary("gptq-int4", at_slo=None)):
        (tmp_path / one.run).mkdir()
        one.write(tmp_path / one.run)
    found = solve(tmp_path)
    assert all(r.comparisons == () and r.output_usd_per_mtok is None for r in found.runs)
    assert "no capacity" in found.sentence


def test_a_missing_run_names_the_command_that_makes_it(tmp_path: Path) -> None:
    """When a run has not been measured yet, the error names the command that measures it."""
    with pytest.raises(InputError, match="make bench"):
        solve(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hardware": "H100_1x", "cloud": "nebius"}, "measured on cpu"),
        ({"hardware": "c7i.larje"}, "no price of c7i.larje"),
        ({"on_date": "tomorrow"}, "is no date"),
        ({"purchase": "spot"}, "has no spot price"),
        ({"apis": ({"model": "gpt-9", "host": "openai"},)}, "no price of gpt-9"),
    ],
)
def test_bad_economics_are_named_and_nothing_is_written(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """Impossible economics are rejected with a remedy before any file is written."""
    write_all(tmp_path)
    data = EXPERIMENT.model_dump(mode="json")
    data["economics"] |= change
    with pytest.raises(InputError, match=said) as caught:
        solve(tmp_path, type(EXPERIMENT).model_validate(data))
    assert caught.value.remedy
    assert not (tmp_path / "golden").exists()


def test_the_sentence_says_where_it_never_pays_off(tmp_path: Path) -> None:
    """The verdict's sentence names the APIs against which self-hosting never pays off."""
    write_all(tmp_path)
    text = solve(tmp_path).sentence
    assert text.startswith("It depends on the API")
    assert "novita) it never pays off" in text


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


def test_a_version_1_verdict_is_solved_anew_and_kept_aside(tmp_path: Path) -> None:
    """An old verdict is replaced by one of the current version and kept beside it."""
    write_all(tmp_path)
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden/verdict.json").write_bytes((GOLDEN / "verdict-v1.json").read_bytes())
    assert solve(tmp_path).version == 2
    assert Verdict.read(tmp_path / "golden/superseded/1").version == 1


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


def test_the_shell_solves_and_prints(tmp_path: Path) -> None:
    """The solve command prints the verdict with its expiry date and writes the record."""
    write_all(tmp_path)
    file = tmp_path / "golden.yaml"
    file.write_text(EXPERIMENT.to_json().decode())
    done = CliRunner().invoke(cli, ["solve", str(file), "--results", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "recompute by" in done.stdout
    assert Verdict.read(tmp_path / "golden").experiment == "golden"


def test_more_tokens_an_hour_are_never_dearer(tmp_path: Path) -> None:
    """On the same machine, higher throughput gives a lower price per token."""
    write_all(tmp_path)
    slow, fast = solve(tmp_path).runs[2], solve(tmp_path).runs[1]
    assert hour(1).output_tokens_per_hour.value == 1
    assert fast.output_usd_per_mtok < slow.output_usd_per_mtok


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


FEATURE = {"name": "law", "requests_per_month": 1e6, "prompt_tokens": 900, "output_tokens": 60}
HAIKU = {"model": "claude-haiku-4-5", "host": "anthropic"}
MINI = [{"model": "gpt-4o-mini", "host": "openai"}]
LAMBDA = {"options": [{"instance": "H100_8x", "cloud": "lambda", "reserved_usd_per_hour": 20.0}]}


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


def test_a_price_that_comes_into_force_within_the_horizon_counts_too(tmp_path: Path) -> None:
    """The age of an announced price limits the verdict's validity if it starts within the horizon."""
    tables = aged(tmp_path / "prices", "api.yaml", "effective_from: 2027-01-01", dt.date(2026, 11, 1))
    gemini = [{"model": "gemini-3.8-flash", "host": "google"}]
    assert decide(scenario(apis=gemini), tables).recompute_by == dt.date(2027, 3, 1)
    assert decide(scenario(apis=gemini, horizon_months=1), tables).recompute_by == dt.date(2027, 3, 23)


def test_the_features_prices_are_looked_up_before_anything_is_measured() -> None:
    """Missing prices of features and reservations are found before any time goes into measuring."""
    preflight(asked(portfolio=[{**FEATURE, **HAIKU}]), PRICES)
    with pytest.raises(InputError, match="no price of claude-haiku-9"):
        preflight(asked(portfolio=[{**FEATURE, "model": "claude-haiku-9", "host": "anthropic"}]), PRICES)
    with pytest.raises(InputError, match="no price of H100_9x"):
        preflight(asked(commitments={"options": [{"instance": "H100_9x", "cloud": "lambda"}]}), PRICES)
