"""`bench telemetry`: shown live and recorded, and never over a recording that stands."""

import subprocess
import sys
from pathlib import Path

from tests import ROOT
from tests.bench.telemetry.conftest import wait_for
from tokenhour.bench.recording import raw_files
from tokenhour.bench.recording.tables import read_table, telemetry_rows
from tokenhour.contracts.records.telemetry import TELEMETRY_FILE, TelemetryRow


def test_telemetry_alone_is_recorded_and_shown(tmp_path: Path) -> None:
    """`bench telemetry` records without any load, and prints what it reads."""
    words = [
        sys.executable,
        "-m",
        "tokenhour.bench",
        "telemetry",
        "--watch",
        "--out",
        str(tmp_path / "t"),
        "--seconds",
        "1.2",
    ]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "host cpu_share" in done.stdout
    rows = read_table(tmp_path / "t" / TELEMETRY_FILE, TelemetryRow)
    assert sum(r.metric == "cpu_share" for r in rows) >= 6
    assert all(0 <= r.t_s < 30 for r in rows)
    assert f"{len(rows)} readings in" in done.stdout
    assert not (tmp_path / "t" / raw_files.TELEMETRY).exists()


def test_a_recording_that_stands_already_is_not_replaced(tmp_path: Path) -> None:
    """The folder may be that of a finished run."""
    (tmp_path / TELEMETRY_FILE).write_text("of a run")
    words = [sys.executable, "-m", "tokenhour.bench", "telemetry", "--out", str(tmp_path), "--seconds", "0.1"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 2
    assert "a recording stands here already" in done.stderr
    assert (tmp_path / TELEMETRY_FILE).read_text() == "of a run"


def test_a_recording_that_is_killed_stays_readable(tmp_path: Path) -> None:
    """What was sampled before a kill is on disk line by line."""
    words = [sys.executable, "-m", "tokenhour.bench", "telemetry", "--out", str(tmp_path)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(tmp_path / raw_files.TELEMETRY, "cpu_share", 5)
        process.kill()
    assert len([r for r in telemetry_rows(tmp_path / raw_files.TELEMETRY) if r.metric == "cpu_share"]) >= 5


def test_telemetry_without_a_wish_is_refused() -> None:
    """A recording that would show and keep nothing is pointed at its options."""
    done = subprocess.run(
        [sys.executable, "-m", "tokenhour.bench", "telemetry"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2
    assert "give --watch, --out DIR" in done.stderr
