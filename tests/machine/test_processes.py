"""No process outlives the one that asked for it."""

import subprocess
import sys
import time
from pathlib import Path


def test_the_death_signal_reaches_a_child_whose_parent_is_killed(tmp_path: Path) -> None:
    """A killed parent takes its child with it: no orphan keeps holding the machine."""
    pid_file = tmp_path / "pid"
    child = (
        "import os, sys, time; from tokenhour.machine.processes import die_with_parent\n"
        "die_with_parent(int(sys.argv[1])); open(sys.argv[2], 'w').write(str(os.getpid())); time.sleep(60)\n"
    )
    parent = (
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}, str(os.getpid()), {str(pid_file)!r}]); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    pid = int(pid_file.read_text())
    process.kill()
    process.wait()
    while time.monotonic() < deadline and _alive(pid):
        time.sleep(0.02)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
