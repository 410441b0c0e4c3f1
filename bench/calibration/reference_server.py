"""The reference server: compiled from its C source on demand, started, stopped, and asked what really happened.

It is the known truth of `bench calibrate`. It needs a C compiler (cc, gcc or clang) once a machine and version.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.io.atomic_io import sha256_file

SOURCE = Path(__file__).parent / "refserver.c"
_COMPILERS = ("cc", "gcc", "clang")


@dataclass(frozen=True, slots=True)
class Truth:
    """What the server did for one request; times in ns of the machine's monotonic clock."""

    status: int
    tokens: int
    received_ns: int
    first_ns: int
    last_ns: int
    sent_ns: NDArray[np.int64]
    """Of each token, after `received_ns`."""


def compiler() -> str:
    """Return the C compiler's path. Raises InputError where there is none."""
    named = os.environ.get("CC")
    for name in (named, *_COMPILERS) if named else _COMPILERS:
        if found := shutil.which(name):
            return found
    raise InputError(
        "no C compiler",
        where="calibration",
        remedy="install gcc or clang (Debian: apt install gcc), or name one in CC",
    )


def binary(cache: Path | None = None) -> Path:
    """Return the compiled server, compiling it where this version has not been yet."""
    folder = cache or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tokenhour"
    made = folder / f"refserver-{sha256_file(SOURCE)[:16]}"
    if made.is_file():
        return made
    cc = compiler()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="tokenhour-"))
        made = folder / made.name
    part = folder / f".{made.name}.{os.getpid()}"
    done = subprocess.run([cc, "-O2", "-o", str(part), str(SOURCE)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(
            f"the reference server does not compile: {' '.join(done.stderr.split())[-300:]}",
            where=str(SOURCE),
            remedy="Linux with epoll and glibc 2.35 or newer is needed",
        )
    part.replace(made)
    return made


def described() -> str:
    """Name the server and its compiler, for the certificate."""
    done = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=False)
    return f"refserver.c {sha256_file(SOURCE)[:12]}, {(done.stdout.splitlines() or ['unknown compiler'])[0]}"


@dataclass(slots=True)
class Reference:
    """A running reference server."""

    process: subprocess.Popen[str]
    port: int
    truth_file: Path
    host: str = "127.0.0.1"

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.port}"

    def truth(self) -> dict[str, Truth]:
        """Stop the server and read what happened, by request id."""
        self.stop()
        found = {}
        with self.truth_file.open(encoding="ascii") as stream:
            for line in stream:
                name, status, tokens, received, first, last, *times = line.split()
                sent = np.asarray(times, dtype=np.int64)
                found[name] = Truth(int(status), int(tokens), int(received), int(first), int(last), sent)
        return found

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def own_core() -> int | None:
    """Return the core that a reference server gets for itself; None where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[0] if len(cores) > 1 else None


@contextlib.contextmanager
def kept_off(core: int | None) -> Iterator[None]:
    """Keep what is started inside the block off a core, for as long as it lives."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, before - {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _alone(process: subprocess.Popen[str], core: int) -> None:
    """Give the server a core, and where permitted let nothing else come before it there: it is the truth."""
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.sched_setaffinity(process.pid, {core})
        os.sched_setscheduler(process.pid, os.SCHED_FIFO, os.sched_param(1))


@contextlib.contextmanager
def running(
    ttft_s: float,
    itl_s: float,
    *options: str,
    host: str = "127.0.0.1",
    prefix: tuple[str, ...] = (),
    core: int | None = None,
) -> Iterator[Reference]:
    """Run a reference server until the block ends.

    `prefix`: a command to run it by, such as `ip netns exec NAME`. `core`: the one that it runs on, from `own_core`.
    """
    program = binary()
    with tempfile.TemporaryDirectory(prefix="tokenhour-") as folder:
        truth = Path(folder) / "truth.txt"
        argv = [str(program), "--ttft-us", str(round(ttft_s * 1e6)), "--itl-us", str(round(itl_s * 1e6))]
        argv += ["--truth", str(truth), "--host", host, *options]
        process = subprocess.Popen([*prefix, *argv], stdout=subprocess.PIPE, text=True)
        try:
            if core is not None:
                _alone(process, core)
            line = process.stdout.readline() if process.stdout else ""
            if not line.strip().isdigit():
                raise RunFailedError("the reference server did not start", where=str(program), remedy="see its output above")
            reference = Reference(process, int(line), truth, host)
            yield reference
        finally:
            Reference(process, 0, truth).stop()
            if process.stdout:
                process.stdout.close()
