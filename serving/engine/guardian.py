"""The engine's guardian: a process whose only work is that nothing of the engine outlives whoever asked for it.

It leads a session of its own, adopts the orphans of its descendants, and holds the read end of a pipe. When the pipe
closes (the supervisor ended, even by SIGKILL) it stops the engine and kills every descendant; on SIGTERM it first lets
running requests end, and on AT_ONCE it kills everything without waiting. When the engine ends by itself, it kills what the
engine left and exits with the engine's code. All that the engine prints passes through it into the rotated log. Run with:
python -m tokenhour.serving.engine.guardian ARGV
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tokenhour.machine.processes import adopt_orphans, die_with_parent
from tokenhour.serving.engine.log_files import RotatingLog, secrets_in

GRACE_S = 8.0
MARK = "TOKENHOUR_ENGINE_MARK"
ORDERS = "TOKENHOUR_GUARD_ORDERS"
# A signal of its own: two SIGTERMs that arrive together are one to the kernel.
AT_ONCE = signal.SIGQUIT
_CHUNK_BYTES = 1 << 16


def main(argv: list[str]) -> int:
    """Start `argv` and stay until it has ended; standard input is the pipe to the supervisor."""
    orders: dict[str, Any] = json.loads(os.environ.pop(ORDERS))
    secrets = secrets_in(os.environ, orders["secrets"])
    log = RotatingLog(Path(orders["log"]), orders["log_bytes"], orders["log_keep"], secrets)
    adopt_orphans()
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    signal.set_wakeup_fd(wake_writer)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, AT_ONCE, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    me = os.getpid()
    try:
        engine = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: die_with_parent(me, signal.SIGKILL),  # noqa: PLW1509 (one thread)
        )
    except OSError as error:
        log.feed(f"cannot start {argv[0]}: {error}\n".encode())
        log.close()
        return 127
    import psutil  # noqa: F401 (beside the engine's start: it is there when everything has to go at once)

    ward = Ward(engine, log, wake_reader, orders["grace_s"])
    why = ward.watch(until_s=None)
    if why in {"told", "left"}:
        engine.terminate()
        drain_s = float(orders["drain_s"]) if why == "told" else 0.0
        why = ward.watch(until_s=time.monotonic() + orders["grace_s"] + drain_s)
    if why != "ended":
        engine.kill()
    code = engine.wait()
    kill_descendants()
    ward.drink()
    log.close()
    return code if code >= 0 else 128 - code


class Ward:
    """The engine that is watched, its output, and the pipe that signals arrive through."""

    def __init__(self, engine: subprocess.Popen[bytes], log: RotatingLog, wake_reader: int, grace_s: float) -> None:
        self._engine, self._log, self._wake, self._grace_s = engine, log, wake_reader, grace_s
        self._output: int | None = engine.stdout.fileno() if engine.stdout else None
        self._pipe_open = True
        if self._output is not None:
            os.set_blocking(self._output, False)

    def watch(self, until_s: float | None) -> str:
        """Wait until the engine has ended ("ended"), somebody is gone ("left") or told us ("told"), or it is "late".

        While stopping (`until_s` is given) only the end, time, AT_ONCE (always "late") and the supervisor's loss count.
        """
        while True:
            left = None if until_s is None else max(0.0, until_s - time.monotonic())
            sources = [self._wake, *([0] if self._pipe_open else []), *([self._output] if self._output is not None else [])]
            ready, _, _ = select.select(sources, [], [], left)
            if self._output in ready:
                self.drink()
            if self._engine.poll() is not None:
                return "ended"
            if 0 in ready and not os.read(0, 1):
                self._pipe_open = False
                if until_s is None:
                    return "left"
                until_s = min(until_s, time.monotonic() + self._grace_s)
            if self._wake in ready:
                told = set(os.read(self._wake, 512)) - {signal.SIGCHLD}
                if AT_ONCE in told:
                    return "late"
                if told and until_s is None:
                    return "told"
            if until_s is not None and time.monotonic() >= until_s:
                return "late"

    def drink(self) -> None:
        """Pass on what the engine has printed so far."""
        while self._output is not None:
            try:
                data = os.read(self._output, _CHUNK_BYTES)
            except BlockingIOError:
                return
            if not data:
                self._output = None
                return
            self._log.feed(data)


def kill_descendants() -> None:
    """SIGKILL all descendants; orphans come to us, so that the loop ends only when none is left."""
    import psutil

    while children := psutil.Process().children(recursive=True):
        for each in reversed(children):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def kill_marked(mark: str) -> None:
    """SIGKILL every process that inherited `mark` as the environment variable MARK: for when the guardian was killed."""
    import psutil

    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if each.environ().get(MARK) == mark:
                each.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
