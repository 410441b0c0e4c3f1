"""Keeping processes from outliving the one that asked for them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(parent_pid: int, signal_number: int = signal.SIGTERM) -> None:
    """Ask the kernel to send this process `signal_number` when `parent_pid` dies (Linux; elsewhere nothing happens).

    `parent_pid` closes the race: when the parent is gone already, the signal is sent at once.
    """
    _prctl(_PR_SET_PDEATHSIG, signal_number)
    if sys.platform == "linux" and os.getppid() != parent_pid:
        os.kill(os.getpid(), signal_number)


def adopt_orphans() -> None:
    """Make this process the parent of its descendants' orphans, so that none can slip away (Linux)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
