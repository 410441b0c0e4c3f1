"""A run folder keeps what happened and never overwrites a record."""

import json
from pathlib import Path

import pytest

from tests.contracts.config.test_experiment import GOOD, load
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.endpoint import Load
from tokenhour.contracts.records.environment import Environment
from tokenhour.machine.run_folder import RunDir


def test_opening_twice_with_the_same_experiment_changes_nothing(tmp_path: Path) -> None:
    """Resuming a run rewrites no record, so that nothing becomes stale by it."""
    experiment = load(tmp_path, GOOD)
    run = RunDir.of(tmp_path, experiment, "w8a8").open(experiment)
    before = {p.name: p.read_bytes() for p in run.path.iterdir()}
    run.open(experiment)
    assert {p.name: p.read_bytes() for p in run.path.iterdir()} == before
    assert run.path.name == "trial-w8a8"


def test_a_changed_experiment_moves_the_old_one_aside(tmp_path: Path) -> None:
    """The earlier experiment stays readable beside the new one."""
    first = load(tmp_path, GOOD)
    run = RunDir.of(tmp_path, first).open(first)
    second = load(tmp_path, GOOD.replace("max_model_len: 512", "max_model_len: 256"))
    run.open(second)
    assert Experiment.read(run.path) == second
    assert Experiment.read(run.path / "superseded/1") == first
    assert Environment.exists(run.path)


def test_events_survive_a_torn_last_line(tmp_path: Path) -> None:
    """A crash in the middle of a note does not hide the events before it."""
    run = RunDir(tmp_path / "r")
    run.note("bench", "started")
    run.note("bench", "done", "VALID")
    with (run.path / "events.jsonl").open("a") as stream:
        stream.write('{"at_utc": "2026-')
    assert [event.state for event in run.events()] == ["started", "done"]
    assert run.status()["bench"].detail == "VALID"


def test_superseding_numbers_the_shelves(tmp_path: Path) -> None:
    """Each replaced record gets a folder of its own; none overwrites another."""
    run = RunDir(tmp_path)
    for text in ("a", "b"):
        (tmp_path / "summary.json").write_text(text)
        run.supersede("summary.json", "absent.json")
    assert (tmp_path / "superseded/1/summary.json").read_text() == "a"
    assert (tmp_path / "superseded/2/summary.json").read_text() == "b"


def test_the_environment_says_on_what_a_run_happened(tmp_path: Path) -> None:
    """CPU, memory, packages and accelerator are recorded as soon as a run is opened."""
    experiment = load(tmp_path, GOOD)
    run = RunDir.of(tmp_path, experiment).open(experiment)
    data = json.loads((run.path / "environment.json").read_text())
    assert data["cpu_count"] >= 1
    assert data["memory_bytes"] > 2**28
    assert data["packages"]["pydantic"]
    assert data["accelerator"]["kind"] in {"cpu", "cuda"}


def endpoint_load(experiment: Experiment) -> Load:
    """Return the load record that an endpoint run would have for this experiment."""
    return Load.model_validate({"record": "load", "version": 1, **experiment.bench.model_dump(mode="json")})


def test_a_folder_of_one_kind_of_run_makes_room_for_the_other(tmp_path: Path) -> None:
    """What says `endpoint` or `experiment` would be taken for what was measured; so would the summary."""
    experiment = load(tmp_path, GOOD)
    run = RunDir(tmp_path / "r")
    run.open_load(endpoint_load(experiment))
    for name in ("endpoint.json", "summary.json", "probes.json"):
        (run.path / name).write_text(name)
    run.open(experiment)
    names = {"load.json", "endpoint.json", "summary.json", "probes.json"}
    assert not names & {p.name for p in run.path.iterdir()}
    assert {p.name for p in (run.path / "superseded/1").iterdir()} == names
    run.open_load(endpoint_load(experiment))
    assert not Experiment.exists(run.path)
    assert Experiment.read(run.path / "superseded/2") == experiment


@pytest.mark.parametrize("inside", ["", "deeper"])
def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path, inside: str) -> None:
    """The user is told about the file in the way instead of reading an OSError."""
    experiment = load(tmp_path, GOOD)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file stands where"):
        RunDir(tmp_path / "file" / inside).open_load(endpoint_load(experiment))
