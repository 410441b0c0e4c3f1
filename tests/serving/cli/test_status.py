"""`serving status`, also where there is nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system


def test_status_of_nothing_says_how_to_start(tmp_path: Path) -> None:
    """`serving status` without any server is no error and names the command that starts one."""
    argv = [sys.executable, "-m", "tokenhour", "serving", "status", "--results", str(tmp_path / "none")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "serving up EXP" in done.stdout
