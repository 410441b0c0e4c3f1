"""Keeping processes from outliving the one that asked for them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(parent_pid: int, signal_number: int = signal.SIGTERM) -> None:
    """Ask the kernel to send this process `signal_number` when `parent_pid` dies (Linux; elsewhere nothing happens).

    `parent_pid` closes the race: when the parent is gone already, the signal is sent at once.
    """
    _prctl(_PR_SET_PDEATHSIG, signal_number)
    if sys.platform == "linux" and os.getppid() != parent_pid:
        os.kill(os.getpid(), signal_number)


def bound_to_us(command: Sequence[str]) -> list[str]:
    """Return `command` as one that dies with this process; safe where threads run, unlike a function before exec."""
    return [sys.executable, "-m", __spec__.name, str(os.getpid()), *command]


def adopt_orphans() -> None:
    """Make this process the parent of its descendants' orphans, so that none can slip away (Linux)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def wait_or_kill(child: subprocess.Popen[bytes], limit_s: float) -> None:
    """Wait for a child; kill it when it is late, or when a signal says that whoever waits has waited enough."""
    try:
        child.wait(limit_s)
    except BaseException as error:
        child.kill()
        child.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise


def raise_file_limit() -> None:
    """Allow this process as many open files, sockets among them, as the machine lets it; a shell's limit is often 1024."""
    import resource  # not on Windows, where the economics run too

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):  # "unlimited" cannot be had everywhere
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    # What Python set for itself is not for whoever comes after it.
    for _number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(_number, signal.SIG_DFL)
    die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 (the caller's own command)
