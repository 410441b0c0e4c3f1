"""The GPU tests are collected everywhere, and fail with the reason where `make test-gpu` finds no GPU."""

import subprocess
import sys

import pytest

from tests import ROOT
from tokenhour.machine.hardware import accelerator


def pytest_of(*words: str) -> subprocess.CompletedProcess[str]:
    """Run pytest over the GPU tests alone."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "-p", "no:xdist", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_without_a_gpu_they_fail_and_say_why() -> None:
    """A machine without a GPU must not report a pass by skipping everything."""
    if accelerator().kind == "cuda":
        pytest.skip("this machine has a GPU: `make test-gpu` runs them")
    done = pytest_of("-x")
    assert done.returncode == 1, done.stdout
    assert "no NVIDIA driver answers here (nvidia-smi): these tests need a GPU" in done.stdout
    assert "skipped" not in done.stdout


def test_all_of_them_are_marked() -> None:
    """An unmarked GPU test would run, and fail, in everybody's ordinary test run."""
    done = pytest_of("--collect-only", "-q")
    assert done.returncode == 0, done.stdout
    assert "deselected" not in done.stdout
    for name in ("test_nvml.py", "test_engine.py", "test_sleep.py", "test_fleet.py"):
        assert name in done.stdout
