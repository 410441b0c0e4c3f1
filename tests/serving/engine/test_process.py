"""The whole of an engine is taken down, even where its guardian was killed."""

import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from tests.serving.conftest import house, left_over
from tokenhour.contracts.errors import RunFailedError
from tokenhour.serving.supervisor.foreground import serve

pytestmark = pytest.mark.system


def test_killing_the_guardian_takes_the_engine_down(tmp_path: Path) -> None:
    """The engine dies with its guardian, even when its worker has renamed itself and left the session."""
    spec, _ = house(tmp_path)
    with serve(spec, "w8a8", tmp_path / "results", tmp_path) as (running, server):
        deadline = time.monotonic() + 10
        (worker,) = [int(line.split()[1]) for line in running.engines[0].log_text().splitlines() if "worker" in line]
        while find_spec("setproctitle") and not Path(f"/proc/{worker}/cmdline").read_text().startswith("VLLM"):
            assert time.monotonic() < deadline, "it renames itself, as vLLM's processes do"
            time.sleep(0.02)
        guard = running.engines[0].guard
        guard.kill()
        guard.wait()
        while psutil.pid_exists(server.engine_pid) and psutil.Process(server.engine_pid).status() != "zombie":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        while running.replicas[0].state != "failed":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(RunFailedError):
            running.check()
    assert left_over(tmp_path) == []
