"""The guardian ends an engine that does not end by itself."""

import signal
from pathlib import Path

import psutil
import pytest

from tests.serving.conftest import house, left_over
from tokenhour.serving.engine import process
from tokenhour.serving.supervisor.foreground import drain, serve

pytestmark = pytest.mark.system


def test_an_engine_that_is_deaf_to_sigterm_is_killed_by_its_guardian(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the supervisor's own last resort: that waits longer."""
    monkeypatch.setattr(process, "GRACE_S", 0.5)
    spec, run = house(tmp_path, "stubborn", operations={"drain_s": 0})
    with serve(spec, "w8a8", tmp_path / "results", tmp_path) as (running, server):
        guard = running.engines[0].guard
        drain(running)
        assert guard.wait(3) == 128 + signal.SIGKILL, "the engine's end, told by a guardian that lives"
        assert not psutil.pid_exists(server.engine_pid)
    assert left_over(tmp_path) == []
    assert run.status()["serving"].state == "done"
