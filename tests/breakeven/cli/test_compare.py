"""Side by side: only what may be compared, with both values when not, and a gate that knows its intervals."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.breakeven.summaries import EXPERIMENT, LAG, hour, summary, write_all, write_roofline
from tokenhour.breakeven.cli.compare import cli
from tokenhour.breakeven.stage import run
from tokenhour.contracts.config.bench import SloSpec
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.summary import Summary

L40S = Accelerator(kind="cuda", name="L40S", count=1, memory_bytes=2**35)


def call(*arguments: object) -> Result:
    """Run the compare command with these arguments."""
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def write(folder: Path, name: str, made: Summary) -> Path:
    """Write a summary as a run of its own and return the run's folder."""
    (folder / name).mkdir()
    made.write(folder / name)
    return folder / name


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Write one run for each precision and return their folders."""
    return [tmp_path / made.run for made in write_all(tmp_path)]


def test_the_table_shows_speed_with_its_interval_quality_and_where_there_is_a_verdict_its_price(
    three: list[Path], tmp_path: Path
) -> None:
    """Comparing precisions shows speed, quality and price with their uncertainty, so the best trade-off can be picked."""
    run(EXPERIMENT, tmp_path, Path("configs/prices"), allow_invalid=False)
    data = json.loads(call(*three, "--json").output)
    w8a8 = data["runs"][1]
    assert w8a8["output_tokens_per_hour"] == {"value": 1_200_000, "low": 1_080_000, "high": 1_320_000}
    usd = w8a8["usd_per_mtok"]
    assert usd["low"] == pytest.approx(usd["value"] / 1.1)
    assert usd["high"] == pytest.approx(usd["value"] / 0.9)
    assert w8a8["first_tokens_per_month"]["gpt-4o-mini at openai"] == pytest.approx(0.08925 * 730 / 0.3e-6)
    assert [one["pareto"] for one in data["runs"]] == [True, True, False]
    assert (tmp_path / "compare" / "pareto.svg").is_file()


def test_without_a_verdict_it_counts_accelerator_hours(three: list[Path]) -> None:
    """Runs without a price still compare, because cost then counts in accelerator-hours per million tokens."""
    found = json.loads(call(*three, "--json").output)["runs"][0]
    assert found["usd_per_mtok"] is None
    assert found["accelerator_hours_per_mtok"]["value"] == pytest.approx(1 / 0.9)
    text = call(*three)
    assert text.exit_code == 0
    assert "900k [810k-990k]" in text.output


@pytest.mark.parametrize(
    ("name", "changes", "values"),
    [
        ("SLO", {"slo": SloSpec(percentile=99, ttft_s=1.0, tpot_s=0.1)}, ("percentile 90", "percentile 99")),
        ("hardware", {"accelerator": L40S}, ("Some CPU", "L40S")),
        ("workload", {"workload": summary().workload.model_copy(update={"name": "other"})}, ("name chat", "name other")),
    ],
)  # fmt: skip
def test_other_conditions_are_refused_with_both_values(
    tmp_path: Path, name: str, changes: dict[str, Any], values: tuple[str, ...]
) -> None:
    """Runs under different conditions are rejected with both values, since their difference would mean nothing."""
    one, two = write(tmp_path, "a", summary()), write(tmp_path, "b", summary(**changes))
    caught = call(one, two).exception
    assert isinstance(caught, InputError)
    assert caught.where == name
    assert all(value in caught.what for value in values)


def test_machines_are_compared_on_purpose(tmp_path: Path) -> None:
    """A comparison between machines works, but only when the user asks for it by flag."""
    other = summary(accelerator=L40S)
    one, two = write(tmp_path, "a", summary()), write(tmp_path, "b", other)
    assert call(one, two, "--across-hardware").exit_code == 0


def test_an_invalid_run_is_refused_unless_asked_for(tmp_path: Path) -> None:
    """Invalid measurements stay out of a comparison unless the user allows them, and are then marked INVALID."""
    one = write(tmp_path, "a", summary())
    two = write(tmp_path, "b", summary(validity="INVALID", reasons=(LAG,)))
    caught = call(one, two).exception
    assert isinstance(caught, RunFailedError)
    assert "client lag" in caught.what
    assert "INVALID" in call(one, two, "--allow-invalid").output


def test_one_run_is_nothing_to_compare(three: list[Path]) -> None:
    """Comparing needs at least two runs."""
    assert isinstance(call(three[0]).exception, InputError)


@pytest.mark.parametrize(("output", "code"), [(900_000, 0), (800_000, 0), (740_000, 0), (730_000, 1), (1_500_000, 0)])
def test_the_gate_fails_only_beyond_the_intervals(tmp_path: Path, output: int, code: int) -> None:
    """900k [810k, 990k]: a run is worse once its own upper end, 1.1 times its value, lies below 810k."""
    one, two = write(tmp_path, "a", summary()), write(tmp_path, "b", summary(at_slo=hour(output, 3.0)))
    done = call(one, two, "--gate")
    assert done.exit_code == code
    assert call(one, two).exit_code == 0, "without the gate it only says so"
    if code:
        assert isinstance(done.exception, RunFailedError)
        assert "730k" in str(done.exception)
        assert "900k" in str(done.exception)


def test_a_run_that_lost_its_capacity_fails_the_gate(tmp_path: Path) -> None:
    """A run that no longer meets the SLO at any rate counts as a regression."""
    one, two = write(tmp_path, "a", summary()), write(tmp_path, "b", summary(at_slo=None))
    assert isinstance(call(one, two, "--gate").exception, RunFailedError)


def test_a_roofline_beside_a_run_is_shown_and_an_earlier_measurements_is_not(three: list[Path]) -> None:
    """Hardware utilization appears only where the roofline belongs to this very measurement."""
    assert "MBU" not in call(*three).output
    write_roofline(three[0])
    write_roofline(three[1], summary_sha256="of an earlier measurement")
    text = " ".join(call(*three).output.split())
    assert "copy bandwidth used (MBU)" in text
    assert "61.0% at peak" in text
    assert "matrix rate used (MFU)" in text
    found = json.loads(call(*three, "--json").output)["runs"]
    assert [point["ops_utilization"] for point in found[0]["roofline"]] == [0.123, 0.0615]
    assert found[1]["roofline"] is None
