"""The help of the measuring commands: every option once, in the group of what it is for."""

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.breakeven.summaries import summary
from tokenhour.bench.cli import _print as show
from tokenhour.bench.cli import cli, run, search, sweep


@pytest.mark.parametrize("command", [run, search, sweep], ids=lambda c: c.name)
def test_every_option_stands_in_one_group_of_at_most_six(command: click.Command) -> None:
    """Help stays readable: three groups, each option once, examples first."""
    assert command.name
    said = CliRunner().invoke(cli, [command.name, "--help"]).output
    options = [name for p in command.params if isinstance(p, click.Option) for name in p.opts[:1]] + ["-h"]
    assert [said.count(f"\n  {name}") for name in options] == [1] * len(options)
    groups = re.split(r"\n(?=\S.*:\n)", said.split("Examples:" if command is run else "Example:")[1])[1:]
    assert len(groups) == 3
    assert all(len(re.findall(r"\n  -", group)) <= 6 for group in groups)


@pytest.mark.parametrize(
    ("count", "said"), [(1, "1.3 accelerator-minutes\n"), (8, "10.7 accelerator-minutes (1.3 minutes x 8)\n")]
)
def test_what_the_measuring_cost_is_told_in_accelerator_minutes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, count: int, said: str
) -> None:
    """The user sees what a measurement itself used up, over all accelerators."""
    machine = summary().accelerator.model_copy(update={"count": count})
    show(summary(accelerator=machine), tmp_path)  # 80 s
    assert f"measuring took {said}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["calibrate", "--out"], ["worker", "127.0.0.1:5557", "--out"]])
def test_a_file_where_a_folder_is_wanted_is_refused_at_once(tmp_path: Path, words: list[str]) -> None:
    """`--out` on an existing file exits with 2 before any measuring."""
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(cli, [*words, str(tmp_path / "file")])
    assert done.exit_code == 2
    assert "is a file" in done.output


@pytest.mark.parametrize("master", ["127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", ":5557"])
def test_what_is_no_master_is_refused(master: str) -> None:
    """A worker needs HOST:PORT and says so before it tries to connect."""
    assert "is no HOST:PORT" in str(CliRunner().invoke(cli, ["worker", master]).exception)
