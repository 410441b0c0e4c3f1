"""`tokenhour report` on a scenario."""

from pathlib import Path

from click.testing import CliRunner

from tokenhour.breakeven.cli import cli as solve_cli
from tokenhour.breakeven.cli.report import cli as report_cli


def test_a_scenario_without_a_measurement_has_a_report_that_says_so(tmp_path: Path) -> None:
    """A scenario alone gives a full report, which states that its capacity was never measured."""
    done = CliRunner().invoke(
        solve_cli, ["solve", "configs/scenarios/team.yaml", "--results", str(tmp_path)], catch_exceptions=False
    )
    assert done.exit_code == 0
    done = CliRunner().invoke(
        report_cli, ["configs/scenarios/team.yaml", "--results", str(tmp_path)], catch_exceptions=False
    )
    assert done.exit_code == 0
    for name in ("report.html", "report.md"):
        text = (tmp_path / "team" / name).read_text()
        assert "nobody measured it here" in text
        for title in (
            "Which feature belongs where",
            "Levers",
            "Interruptible machines",
            "How much to reserve",
            "What would turn it",
        ):
            assert title in text, title
        assert "Training against inference" in text
        assert "What was measured" not in text
