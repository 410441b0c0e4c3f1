"""Start an engine, and always take the whole of it down again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tokenhour.contracts.config.operations import LogSpec
from tokenhour.contracts.errors import RunFailedError
from tokenhour.contracts.io.atomic_io import disk_errors
from tokenhour.contracts.units import BYTES_PER_MIB
from tokenhour.machine.processes import wait_or_kill
from tokenhour.serving.engine.crash_diagnosis import cause_of, tail
from tokenhour.serving.engine.guardian import AT_ONCE, GRACE_S, MARK, ORDERS, kill_marked
from tokenhour.serving.engine.log_files import identity_of, numbered, read_all, set_aside
from tokenhour.serving.launch.argv import Launch


@dataclass(slots=True)
class Engine:
    """A running engine (or router): its guardian, its log, and when it was launched (time.monotonic)."""

    guard: subprocess.Popen[bytes]
    launch: Launch
    log: Path
    launched: float = field(default_factory=time.monotonic)
    name: str = "vLLM"
    earlier: tuple[int, int] | None = None
    """The log that an engine before this one left."""

    def log_text(self) -> str:
        """Return what the engine has printed lately."""
        return read_all(self.log, without=self.earlier)

    def pid(self) -> int:
        """Return the root of the engine's process tree."""
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            if children := psutil.Process(self.guard.pid).children():
                return children[0].pid
        return self.guard.pid

    def ended(self) -> bool:
        """Tell whether it has ended."""
        return self.guard.poll() is not None

    def check(self) -> None:
        """Raise RunFailedError with the likely cause and the last log lines when the engine has ended."""
        code = self.guard.poll()
        if code is None:
            return
        words = self.log_text()
        cause = cause_of(words, code)
        raise RunFailedError(
            f"{self.name} ended with exit code {code}: {cause.what}\n{tail(words)}", where=str(self.log), remedy=cause.remedy
        )

    def drain(self) -> None:
        """Tell it to let running requests end and then to stop; returns at once."""
        with contextlib.suppress(ProcessLookupError):
            self.guard.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Have the whole tree killed, whatever still runs; returns at once."""
        with contextlib.suppress(ProcessLookupError):
            self.guard.send_signal(AT_ONCE)


@contextlib.contextmanager
def engine(
    launch: Launch, log: Path, *, kept: LogSpec | None = None, drain_s: float = 0.0, name: str = "vLLM"
) -> Iterator[Engine]:
    """Run `launch` under a guardian; when the block ends, however it ends, the whole tree is gone."""
    mark = uuid.uuid4().hex
    # vLLM's processes name themselves with setproctitle, which wipes /proc/PID/environ unless SPT_NOENV is set: the mark,
    # by which `kill_marked` finds what a killed guardian left, would be gone.
    marked = {MARK: mark, "SPT_NOENV": "1"}
    spec = kept or LogSpec()
    orders = {
        "log": str(log),
        "log_bytes": int(spec.max_mib * BYTES_PER_MIB),
        "log_keep": spec.keep,
        "drain_s": drain_s,
        "grace_s": GRACE_S,
        "secrets": list(launch.secrets),
    }
    with disk_errors(log):
        # What the engine before this one said last is why it crashed: a restart must not erase it.
        set_aside(log, spec.keep)
        log.write_bytes(b"")
        earlier = identity_of(numbered(log, 1))
        reader, writer = os.pipe()
        try:
            guard = subprocess.Popen(
                [sys.executable, "-m", "tokenhour.serving.engine.guardian", *launch.argv],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **launch.environment, **launch.secrets, **marked, ORDERS: json.dumps(orders)},
                start_new_session=True,
            )
        except OSError:
            os.close(writer)
            raise
        finally:
            os.close(reader)
    try:
        yield Engine(guard, launch, log, name=name, earlier=earlier)
    finally:
        os.close(writer)
        try:
            wait_or_kill(guard, GRACE_S + drain_s + 5)
        finally:
            # The guardian itself may have been killed: then nobody else knows what the engine had started.
            kill_marked(mark)
