"""The summary derives again from the records alone, on whatever machine."""

from pathlib import Path

import pytest

from tests.bench.conftest import Measured
from tokenhour.bench.summary.finalize import derive, note_machine
from tokenhour.contracts.records.environment import Environment
from tokenhour.contracts.records.probe import Probe, Probes
from tokenhour.machine.run_folder import RunDir

pytestmark = pytest.mark.system


def test_the_summary_derives_again_from_the_raw_records(measured: Measured) -> None:
    """Statistics are a pure function of the raw records, so anybody can check them."""
    run_dir, summary, _ = measured
    assert derive(run_dir) == summary


def test_derived_again_on_another_machine_it_names_the_one_that_was_measured_on(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The laptop that derives a summary does not become the machine that was measured."""
    run_dir, summary, _ = measured
    monkeypatch.setattr("tokenhour.machine.lineage.cpu_model", lambda: "another CPU")
    assert derive(run_dir) == summary


def test_a_folder_that_came_from_another_machine_gets_the_environment_of_this_one(
    measured: Measured, tmp_path: Path
) -> None:
    """Measuring into a copied folder moves the foreign environment aside, once."""
    here = Environment.read(measured[0].path)
    folder = RunDir(tmp_path)
    here.model_copy(update={"cpu_model": "another CPU"}).write(tmp_path)
    note_machine(folder)
    assert Environment.read(tmp_path).machine_sha256() == here.machine_sha256()
    assert Environment.read(tmp_path / "superseded/1").cpu_model == "another CPU"
    note_machine(folder)
    assert not (tmp_path / "superseded/2").exists()


def test_tokens_that_the_engine_counts_otherwise_invalidate(measured: Measured, tmp_path: Path) -> None:
    """The counters of the records are moved by a percent; nothing else is."""
    old, _, _ = measured
    found = Probes.read(old.path)
    for file in old.path.iterdir():
        if file.is_file() and file.name not in ("summary.json", "probes.json"):
            (tmp_path / file.name).symlink_to(file)

    def wrong(probe: Probe) -> Probe:
        counted = probe.after.model_copy(update={"generation_tokens": probe.after.generation_tokens * 1.01 + 1})
        return probe.model_copy(update={"after": counted})

    found.model_copy(update={"probes": tuple(map(wrong, found.probes))}).write(tmp_path)
    assert any(r.rule.startswith("token counts disagree") for r in derive(RunDir(tmp_path)).reasons)
