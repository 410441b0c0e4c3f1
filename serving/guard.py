"""The engine's guardian: a process whose only work is that nothing of the engine outlives whoever asked for it.

It leads a session of its own, adopts the orphans of its descendants, and holds the read end of a pipe. When the pipe
closes (the supervisor ended, even by SIGKILL), or on SIGTERM, it stops the engine and kills every descendant. When the
engine ends by itself, it kills what the engine left and exits with the engine's code. Run with: python -m serving.guard ARGV
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from contracts.process import adopt_orphans, die_with_parent

GRACE_S = 8.0
MARK = "TOKENHOUR_ENGINE_MARK"


def main(argv: list[str]) -> int:
    """Start `argv` and stay until it has ended; standard input is the pipe to the supervisor."""
    adopt_orphans()
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    signal.set_wakeup_fd(wake_writer)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    me = os.getpid()
    engine = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: die_with_parent(me, signal.SIGKILL),  # noqa: PLW1509 (one thread)
    )
    code = _watch(engine, wake_reader)
    if code is None:
        code = _stop(engine)
    kill_descendants()
    return code if code >= 0 else 128 - code


def _watch(engine: subprocess.Popen[bytes], wake_reader: int) -> int | None:
    """Wait until the engine ends (its code) or somebody wants it to (None)."""
    while True:
        ready, _, _ = select.select([0, wake_reader], [], [])
        if wake_reader in ready:
            signals = os.read(wake_reader, 512)
            if any(number != signal.SIGCHLD for number in signals):
                return None
        if 0 in ready and not os.read(0, 1):
            return None
        if (code := engine.poll()) is not None:
            return code


def _stop(engine: subprocess.Popen[bytes]) -> int:
    engine.terminate()
    try:
        return engine.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        engine.kill()
        return engine.wait()


def children_of(pid: int) -> list[int]:
    """Return the direct children of `pid` as the kernel lists them."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def kill_descendants() -> None:
    """SIGKILL all descendants; orphans come to us, so that the loop ends only when none is left."""
    while children := children_of(os.getpid()):
        for pid in children:
            for each in (*_below(pid), pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def kill_marked(mark: str) -> None:
    """SIGKILL every process that inherited `mark` as the environment variable MARK: for when the guardian was killed."""
    needle = f"{MARK}={mark}".encode()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if needle in environ.read_bytes().split(b"\0"):
                os.kill(int(environ.parent.name), signal.SIGKILL)


def _below(pid: int) -> list[int]:
    return [each for child in children_of(pid) for each in (*_below(child), child)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
