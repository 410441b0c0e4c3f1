"""The command makes what an experiment names, reuses what is current, and says so."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.atomic_io import write_text_atomic
from tokenhour.machine.run_folder import RunDir
from tokenhour.quantize.cache_key import Workshop
from tokenhour.quantize.cli import cli

pytestmark = pytest.mark.system


def test_another_gate_is_judged_without_making_anything(shop: tuple[Experiment, Workshop], tmp_path: Path) -> None:
    """A new quality bound is applied to the recorded figures, without hours of work."""
    spec, where = shop
    strict = spec.model_dump(mode="json")
    arguments = ["run", str(tmp_path / "e.yaml"), "--scheme", "gptq-int4", "--results", str(where.results)]
    arguments += ["--checkpoints", str(where.checkpoints)]
    said = []
    for bound in (10.0, 1e-6):
        strict["quantize"]["gate"] = {"max_mean_kl_divergence": bound}
        write_text_atomic(tmp_path / "e.yaml", json.dumps(strict))
        said.append(CliRunner().invoke(cli, arguments, catch_exceptions=False).output)
    assert "quality gate PASS" in said[0]
    assert "reused" in said[1]
    assert "quality gate FAIL (mean KL divergence" in said[1]


def test_the_command_makes_then_reuses_and_says_so(shop: tuple[Experiment, Workshop], tmp_path: Path) -> None:
    """The second run reuses both checkpoints, repeats the notes and records that as an event."""
    spec, where = shop
    spec.write(tmp_path)
    arguments = ["run", str(tmp_path / "experiment.json"), "--results", str(where.results)]
    arguments += ["--checkpoints", str(where.checkpoints)]
    first = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    again = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "gptq-int4" in first.output
    assert "reused" not in first.output
    assert again.output.count("reused") == 2
    for output in (first.output, again.output):
        assert output.count("note: group size 16 instead of 128, which does not divide the widths [48, 96]") == 1
    run = RunDir.of(where.results, spec, "gptq-int4")
    assert [event.state for event in run.events()] == ["started", "done", "reused"]


def test_a_scheme_that_the_experiment_does_not_name_is_refused(shop: tuple[Experiment, Workshop], tmp_path: Path) -> None:
    """`--scheme` accepts only the experiment's own schemes."""
    shop[0].write(tmp_path)
    with pytest.raises(InputError, match="not among its schemes"):
        CliRunner().invoke(cli, ["run", str(tmp_path / "experiment.json"), "--scheme", "w8a8"], catch_exceptions=False)
