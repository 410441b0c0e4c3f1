"""What our own servers' runs have recorded, and whether a process is still theirs."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.serving.cli.test_scan import policy_file, run, state
from tokenhour.contracts.records.telemetry import TELEMETRY_FILE
from tokenhour.serving.idle_scan import own_servers
from tokenhour.serving.state import start_of


def record_telemetry(folder: Path, share: float = 0.1, seconds: int = 3) -> None:
    """Write telemetry of two GPUs and the host, as a benchmark records it."""
    import pandas as pd

    folder.mkdir()
    rows = [(float(t), "gpu", str(g), "utilization_share", share * g) for t in range(seconds) for g in range(2)]
    rows.append((1.0, "host", "", "cpu_share", 1.0))
    table = pd.DataFrame(rows, columns=["t_s", "source", "index", "metric", "value"])
    table.to_parquet(folder / TELEMETRY_FILE)


def test_the_gpu_utilization_that_a_live_server_has_recorded_is_read(idler: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """Mean and peak utilization come from GPU rows only, over the time that telemetry covers."""
    record_telemetry(tmp_path / "run")
    state(idler.pid, run="run").write(tmp_path / "run")
    (found,) = own_servers.recorded(tmp_path)
    assert (found.run, found.accelerators, found.seconds) == ("run", 2, 2.0)
    assert found.peak_share == pytest.approx(0.1)
    assert found.mean_share == pytest.approx(0.05)


@pytest.mark.parametrize(
    "changes", [None, {"state": "stopped"}, {"supervisor_start": 1}, {"started_utc": "2999-01-01T00:00:00+00:00"}]
)
@pytest.mark.usefixtures("gpu")
def test_what_a_server_that_is_gone_had_recorded_fails_no_scan(
    idler: subprocess.Popen[bytes], tmp_path: Path, changes: dict[str, Any] | None
) -> None:
    """Old runs lie in results for good: cron would report them every ten minutes. The last one is of an earlier server."""
    record_telemetry(tmp_path / "run", seconds=3602)
    if changes:
        state(idler.pid, run="run", mode="run", **changes).write(tmp_path / "run")
    done = run("--results", tmp_path, "--policy", policy_file(tmp_path), "--json")
    assert (done.exit_code, json.loads(done.output)["findings"]) == (0, [])


def test_a_reused_pid_is_never_signalled(idler: subprocess.Popen[bytes]) -> None:
    """A process counts as the same only with its start time, so a stranger that got the PID is safe."""
    assert own_servers.same_process(idler.pid, start_of(idler.pid))
    assert not own_servers.same_process(idler.pid, start_of(idler.pid) + 1)
