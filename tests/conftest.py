"""Settings of all tests."""

import os
import signal

import pytest
from hypothesis import settings

# A busy machine is no defect: no test fails for being slow.
settings.register_profile("house", deadline=None, derandomize=True)
# New examples at every run, and many of them: `make test-explore`, nightly. What it finds becomes an @example.
settings.register_profile("explore", deadline=None, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "house"))

# A shell that runs the suite in the background ignores Ctrl-C for it and, by inheritance, for all that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def modern_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU with every kernel, whatever this machine has: what is chosen or refused by the CPU is for its own tests."""
    monkeypatch.setattr("tokenhour.machine.hardware.cpu_flags", lambda: ("avx2", "avx512f"))
