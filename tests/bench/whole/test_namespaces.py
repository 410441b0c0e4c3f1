"""What wants root is run by everybody else too: as root of namespaces of its own, or by sudo where it asks no password."""

import os
import shutil
import subprocess
import sys

import pytest

from tests import ROOT

PREPARE = "mount -t tmpfs tmpfs /run && ip link set lo up"
# By itself, each test of a mount or of network namespaces must work there.
TRY = f"{PREPARE} && ip netns add th-try && ip netns exec th-try true && ip netns del th-try"
TESTS = {
    "a full disk": "whole/test_faults.py::test_a_full_disk_ends_the_run_with_its_reason_and_keeps_what_was_recorded",
    "two hosts": "loadgen/test_distributed.py::test_two_machines_make_one_load",
}

pytestmark = pytest.mark.system


def works(*words: str) -> bool:
    """Tell whether a command exists and succeeds."""
    return shutil.which(words[0]) is not None and subprocess.run(words, capture_output=True, check=False).returncode == 0


def as_root() -> tuple[list[str], str]:
    """Return the words that run a shell's script as root somehow, and what it has to begin with; skip without any."""
    apart = ["unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-c"]
    if works(*apart, TRY):
        return apart, f"{PREPARE} && "
    if works("sudo", "-n", "true"):
        kept = ("PATH", "PYTHONPATH", "TMPDIR", "LD_LIBRARY_PATH")
        return ["sudo", "-n", "env", *(f"{k}={os.environ[k]}" for k in kept if k in os.environ), "sh", "-c"], ""
    pytest.skip("neither user namespaces nor sudo without a password here")


@pytest.mark.skipif(os.geteuid() == 0, reason="root runs them as they are")
@pytest.mark.parametrize("test", TESTS.values(), ids=TESTS)
def test_what_wants_root_passes_as_root(test: str) -> None:
    """Developers without root still run the tests that mount, change priorities or make networks."""
    words, begin = as_root()
    # Files of another owner must not stay in the working tree.
    begin += "export PYTHONDONTWRITEBYTECODE=1; "
    run = f"exec {sys.executable} -m pytest -p no:cacheprovider -p no:xdist -rs tests/bench/{test}"
    done = subprocess.run(
        [*words, begin + run], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False, stdin=subprocess.DEVNULL
    )
    if "SKIPPED" in done.stdout:
        pytest.skip(next(line for line in done.stdout.splitlines() if "SKIPPED" in line))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
