"""`tokenhour breakeven` on a command line."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from tests.breakeven.scenarios import BASE, EVERYTHING
from tests.breakeven.summaries import EXPERIMENT, write_all
from tokenhour.breakeven.cli import WIDER, cli
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.verdict import Verdict


def test_the_shell_solves_and_prints(tmp_path: Path) -> None:
    """The solve command prints the verdict with its expiry date and writes the record."""
    write_all(tmp_path)
    file = tmp_path / "golden.yaml"
    file.write_text(EXPERIMENT.to_json().decode())
    done = CliRunner().invoke(cli, ["solve", str(file), "--results", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "recompute by" in done.stdout
    assert Verdict.read(tmp_path / "golden").experiment == "golden"


@pytest.mark.parametrize("name", WIDER)
def test_each_question_has_a_command(name: str, tmp_path: Path) -> None:
    """Each optional question has a command that writes no file and rejects scenarios that never ask it."""
    file = tmp_path / "asked.yaml"
    file.write_text(yaml.safe_dump({**BASE, "economics": {**BASE["economics"], **EVERYTHING}}))
    done = CliRunner().invoke(cli, [name, str(file), "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)
    assert CliRunner().invoke(cli, [name, str(file)], catch_exceptions=False).stdout
    assert [p.name for p in tmp_path.iterdir()] == ["asked.yaml"]
    file.write_text(yaml.safe_dump(BASE))
    with pytest.raises(InputError, match=f"asks nothing about {name}"):
        CliRunner().invoke(cli, [name, str(file)], catch_exceptions=False)
