"""Summaries and prices are found or refused by name; a verdict that still stands is reused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.breakeven.inputs.test_problem import FEATURE, HAIKU
from tests.breakeven.scenarios import BASE, PRICES, asked, solve
from tests.breakeven.summaries import EXPERIMENT, LAG, summary, write_all
from tests.breakeven.test_verdict import GOLDEN
from tokenhour.breakeven.stage import load, preflight, run
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import Verdict


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


def test_a_version_1_verdict_is_solved_anew_and_kept_aside(tmp_path: Path) -> None:
    """An old verdict is replaced by one of the current version and kept beside it."""
    write_all(tmp_path)
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden/verdict.json").write_bytes((GOLDEN / "verdict-v1.json").read_bytes())
    assert solve(tmp_path).version == 2
    assert Verdict.read(tmp_path / "golden/superseded/1").version == 1


def test_the_features_prices_are_looked_up_before_anything_is_measured() -> None:
    """Missing prices of features and reservations are found before any time goes into measuring."""
    preflight(asked(portfolio=[{**FEATURE, **HAIKU}]), PRICES)
    with pytest.raises(InputError, match="no price of claude-haiku-9"):
        preflight(asked(portfolio=[{**FEATURE, "model": "claude-haiku-9", "host": "anthropic"}]), PRICES)
    with pytest.raises(InputError, match="no price of H100_9x"):
        preflight(asked(commitments={"options": [{"instance": "H100_9x", "cloud": "lambda"}]}), PRICES)


def test_a_measured_summary_gives_a_measured_verdict_and_its_energy(tmp_path: Path) -> None:
    """A scenario built on a summary counts as measured and includes its energy cost."""
    one = summary("none", energy_j_per_output_token=0.72)
    (tmp_path / one.run).mkdir()
    one.write(tmp_path / one.run)
    file = tmp_path / "mine.yaml"
    data = {**BASE, "name": "mine", "summaries": [str(tmp_path / one.run)]}
    data["economics"] = {**BASE["economics"], "hardware": "c7i.large", "cloud": "aws"}
    del data["assumed"]
    file.write_text(yaml.safe_dump(data))
    found, _ = run(load(file), tmp_path / "results", PRICES, allow_invalid=False)
    assert found.runs[0].origin.badge == "measured"
    assert found.runs[0].energy_usd_per_mtok_output == pytest.approx(0.72 / 3.6 * 0.15)
    assert Verdict.read(tmp_path / "results/mine").sentence == found.sentence
    again, reused = run(load(file), tmp_path / "results", PRICES, allow_invalid=False)
    assert reused
    assert again == found


def test_an_invalid_summary_is_refused(tmp_path: Path) -> None:
    """A scenario cannot bring an invalid measurement in, and leaves no results behind."""
    write_all(tmp_path, validity="INVALID", reasons=(LAG,))
    data = {**BASE, "name": "mine", "summaries": [str(tmp_path / "golden-none")]}
    del data["assumed"]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(RunFailedError, match="client lag"):
        run(load(file), tmp_path / "results", PRICES, allow_invalid=False)
    assert not (tmp_path / "results").exists()


def test_another_record_is_named(tmp_path: Path) -> None:
    """A file of an unknown record kind is rejected, and the remedy names the kinds that exist."""
    (tmp_path / "x.yaml").write_text("record: scenari0\nname: x\n")
    with pytest.raises(InputError, match="scenari0") as caught:
        load(tmp_path / "x.yaml")
    assert "experiment and scenario" in caught.value.remedy
