"""What resting saved, from serving's idle record to the lever, the verdict and the page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from pydantic import ValidationError

from tests.breakeven.scenarios import BASE, DAY, PRICES, asked, decide, scenario, solve
from tests.breakeven.summaries import summary
from tokenhour.breakeven.cli import cli
from tokenhour.breakeven.inputs import idle_savings
from tokenhour.breakeven.report.tables import named
from tokenhour.breakeven.stage import run
from tokenhour.contracts.config.bench import SloSpec
from tokenhour.contracts.config.operations import IdleSpec
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.standalone.idle import IdleEvent, IdleRecord
from tokenhour.serving.proxy.idle_policy import derive

WHEN = "2026-11-24T00:00:00+00:00"
IDLE = [{"lever": "idle_gpus", "low": 0.05, "high": 0.9, "source": "a guess"}]


def record(policy: str = "stop", penalties: Sequence[float] = (30.0, 50.0), observed_s: float = 10_000.0) -> IdleRecord:
    """Four tenths of the time asleep, in as many rests as there are wakes."""
    events, at, rest = [IdleEvent("up", 0.0, WHEN)], 0.0, 0.4 * observed_s / len(penalties)
    for penalty in penalties:
        at += 0.3 * observed_s / len(penalties)
        events.append(IdleEvent("asleep", at, WHEN, released_bytes=1000))
        at += rest
        events.append(IdleEvent("awake", at, WHEN, took_s=penalty, held=1))
    return derive([*events, IdleEvent("down", observed_s, WHEN)], IdleSpec(policy=policy, after_s=60), 1, {}, WHEN)


def write(folder: Path, found: IdleRecord, **changes: Any) -> Path:
    """Write a run and its idle record into one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    summary("none", **changes).write(folder)
    found.write(folder)
    return folder


def test_the_saving_is_the_time_asleep_less_the_wakes_that_are_paid() -> None:
    """0.4 of 10,000 s asleep, two wakes of 40 s on average whose interval is 0 to 167 s."""
    found = idle_savings.measured(record(), "here")
    assert found.asleep_share == pytest.approx(0.4)
    assert found.wake_penalty_s.value == 40
    assert found.saved_high == pytest.approx(0.4)
    assert found.saved_low == pytest.approx(0.4 - 2 * found.wake_penalty_s.high / 10_000)
    once = idle_savings.measured(record(penalties=(100.0,)), "here")
    assert once.saved_low == once.saved_high == pytest.approx(0.4 - 100 / 10_000)


def test_a_sleep_level_keeps_the_machine_so_nothing_is_saved_for_certain() -> None:
    """Sleeping without releasing the machine guarantees no saving, so the low end is zero."""
    found = idle_savings.measured(record("sleep-1"), "here")
    assert (found.gpu_is_free, found.saved_low) == (False, 0.0)
    assert found.saved_high == pytest.approx(0.4)


def test_wakes_longer_than_the_rest_save_nothing_and_no_time_is_no_share() -> None:
    """Long wake-ups never yield a negative saving, and an empty record yields none."""
    assert idle_savings.measured(record(penalties=(4000.0, 4000.0)), "x").saved_high == 0
    empty = derive([IdleEvent("up", 1.0, WHEN), IdleEvent("down", 1.0, WHEN)], IdleSpec(policy="stop"), 1, {}, WHEN)
    none = idle_savings.measured(empty, "x")
    assert (none.saved_low, none.saved_high, none.wake_penalty_s) == (0.0, 0.0, None)
    assert "no wake yet" in idle_savings.told(none)


def test_the_record_beside_the_run_replaces_the_assumed_range(tmp_path: Path) -> None:
    """A measured idle record beside a run takes precedence over the guessed saving and is named as its source."""
    write(tmp_path / "golden-none", record())
    found = solve(tmp_path, asked(schemes=["none"], levers=IDLE))
    (figure,) = found.levers.figures
    expected = idle_savings.measured(record(), "x")
    assert figure.badge == "measured"
    assert (figure.low, figure.high) == pytest.approx((expected.saved_low, expected.saved_high))
    assert "asleep 40.0%" in figure.source
    assert "results/golden-none/idle.json" in figure.source
    assert found.runs[0].idle.asleep_share == pytest.approx(0.4)
    (row,) = [a for a in found.assumptions if a.name == "rest of golden-none"]
    assert (row.badge, row.source) == ("measured", "results/golden-none/idle.json")
    assert "waits 40 s" in row.value


def test_without_a_record_the_range_stays_assumed_and_no_section_stands(tmp_path: Path) -> None:
    """Without an idle record the report keeps the guess, marks it as assumed and shows no idle section."""
    (tmp_path / "golden-none").mkdir()
    summary("none").write(tmp_path / "golden-none")
    found = solve(tmp_path, asked(schemes=["none"], levers=IDLE))
    (figure,) = found.levers.figures
    assert (figure.badge, figure.low, figure.high) == ("assumed", 0.05, 0.9)
    assert found.runs[0].idle is None
    assert named(found, "idle") is None


def test_terminal_and_report_show_rest_with_its_origin(tmp_path: Path) -> None:
    """The idle section shows the share of time asleep together with the record it came from."""
    write(tmp_path / "golden-none", record())
    found = solve(tmp_path, asked(schemes=["none"], levers=IDLE))
    (cells,) = named(found, "idle").rows
    assert "40.0%" in cells
    assert cells[-2:] == ("measured", "results/golden-none/idle.json")
    (lever,) = named(found, "levers").rows
    assert lever[3] == "measured"


def test_a_wake_longer_than_the_objective_is_a_warning(tmp_path: Path) -> None:
    """Users are warned when a request that wakes the server would miss the latency objective."""
    write(tmp_path / "golden-none", record())
    warnings = solve(tmp_path, asked(schemes=["none"])).warnings
    assert any("waits 40 s" in w and "1 s to the first token" in w for w in warnings)
    assert not idle_savings.too_slow(
        idle_savings.measured(record(penalties=(0.5,)), "x"), SloSpec(percentile=90, ttft_s=1.0)
    )
    assert not idle_savings.too_slow(idle_savings.measured(record(), "x"), None)


def test_a_scenario_names_its_record_by_file_or_folder(tmp_path: Path) -> None:
    """A scenario can point to an idle record by file or folder, and a bad one is named."""
    record().write(tmp_path)
    for said in (tmp_path, tmp_path / "idle.json"):
        found = decide(scenario(levers=[{"lever": "idle_gpus", "record": str(said)}]))
        assert found.levers.figures[0].badge == "measured"
        assert str(tmp_path / "idle.json") in found.levers.figures[0].source
    with pytest.raises(InputError, match="no idle record at /nowhere") as caught:
        decide(scenario(levers=[{"lever": "idle_gpus", "record": "/nowhere"}]))
    assert "levers" in caught.value.where
    (tmp_path / "idle.json").write_text("{}")
    with pytest.raises(InputError, match="observed_s"):
        decide(scenario(levers=[{"lever": "idle_gpus", "record": str(tmp_path)}]))


def test_an_autoscaled_fleet_does_not_save_its_quiet_hours_twice(tmp_path: Path) -> None:
    """Sleeping when idle earns nothing where autoscaling has already removed the idle hours from the bill."""
    record().write(tmp_path)
    levers = [{"lever": "idle_gpus", "record": str(tmp_path)}]
    (figure,) = decide(scenario(levers=levers, profile={"hours": DAY}, scaling="autoscale")).levers.figures
    assert figure.low == 0
    assert "autoscaled bill already" in figure.source
    both = [*levers, {"lever": "autoscaling"}]
    rest, _ = decide(scenario(levers=both, profile={"hours": DAY}, tokens_per_month=5e10)).levers.figures
    assert (rest.lever, rest.low) == ("idle_gpus", 0)
    assert "lever autoscaling already" in rest.source


@pytest.mark.parametrize(
    "levers",
    [
        [{"lever": "spot", "record": "x"}],
        [{"lever": "idle_gpus", "line": "ops", "record": "x"}],
        [{"lever": "idle_gpus"}, {"lever": "idle_gpus", "low": 0.1, "high": 0.2}],
    ],
)
def test_a_record_of_another_lever_or_a_lever_twice_is_refused(levers: list[dict[str, Any]]) -> None:
    """A record on the wrong lever, or one lever given twice, is rejected before it counts."""
    with pytest.raises(ValidationError, match=r"belongs to lever idle_gpus|twice"):
        scenario(levers=levers)


def test_a_new_record_makes_the_verdict_anew_and_trace_watches_it(tmp_path: Path) -> None:
    """A new idle record triggers a new verdict; an unchanged one reuses the old verdict."""
    folder = write(tmp_path / "golden-none", record())
    one = asked(schemes=["none"], levers=IDLE)
    first = solve(tmp_path, one)
    assert [k for k in first.inputs if k.startswith("idle:")] == ["idle:golden-none/idle.json"]
    assert run(one, tmp_path, PRICES, allow_invalid=False)[1]
    (folder / "idle.json").unlink()
    record(penalties=(10.0,)).write(folder)
    again, reused = run(one, tmp_path, PRICES, allow_invalid=False)
    assert not reused
    assert again.runs[0].idle.wakes == 1


def test_the_command_prints_where_rest_was_measured(tmp_path: Path) -> None:
    """The levers command tells measured savings from assumed ones, in text and in JSON."""
    record().write(tmp_path)
    file = tmp_path / "asked.yaml"
    levers = [{"lever": "idle_gpus", "record": str(tmp_path)}]
    file.write_text(yaml.safe_dump({**BASE, "economics": {**BASE["economics"], "levers": levers}}))
    done = CliRunner().invoke(cli, ["levers", str(file), "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["figures"][0]["badge"] == "measured"
    assert "measured" in CliRunner().invoke(cli, ["levers", str(file)], catch_exceptions=False).stdout
