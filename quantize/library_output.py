"""Third-party libraries talk to a log file while our own status line stays readable; and the peak memory of a step."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tokenhour.contracts.units import human_seconds
from tokenhour.machine.progress import Status

# llm-compressor: "(3/31): Calibrating"; GPTQModel: "Quantizing mlp.up_proj in layer [27 of 29]", counted from 0 to the last;
# AutoRound: "Quantizing model.layers.1:   3%|...| 1/30", where 1 is done. What is added makes them alike.
# What else they print as k/n are batches and rows within a layer, and tensors that are written.
_LAYERS = (
    (re.compile(rb"\((\d+)/(\d+)\): "), 0, 0),
    (re.compile(rb"layer\s*\[(\d+) of (\d+)\]"), 1, 1),
    (re.compile(rb"Quantizing [\w.]+: +\d+%\|[^|]*\| (\d+)/(\d+)"), 1, 0),
)
_TAIL_BYTES = 4000
# What a scheme that goes through the layers more than once writes into the log: see `say_passes`.
_PASSES = re.compile(rb"tokenhour: (\d+) passes over the layers\n")
_HEAD_BYTES = 1 << 18


@contextlib.contextmanager
def quiet(title: str, log: Path) -> Iterator[Status]:
    """Send everything that is printed inside the block to `log`, and show `title` with the layer that it tells of."""
    log = log.resolve()
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(2), os.dup(1)
    with os.fdopen(kept[0], "w", closefd=True) as screen, log.open("ab", buffering=0) as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
        try:
            with Status(title, screen) as status, _follow(log, log.stat().st_size, status):
                yield status
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(screen.fileno(), 2)
            os.dup2(kept[1], 1)
            os.close(kept[1])


@contextlib.contextmanager
def _follow(log: Path, since: int, status: Status) -> Iterator[None]:
    """Show the layers of `log`, of which the first `since` bytes are an earlier run's."""
    done, layers = threading.Event(), Layers()

    def run() -> None:
        while not done.wait(1.0):
            step = last_step(log, since)
            if step is not None and (text := layers.say(step, passes(log, since), time.monotonic())):
                status.update(text)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class Layers:
    """Says which layer a library works on, in which of its passes, and how long that pass will still take."""

    def __init__(self) -> None:
        self._shown = (0, 0)
        self._began = (0, 0.0)
        self._pass = 0

    def say(self, step: tuple[int, int], passes: int, now: float) -> str:
        """Return the words for layer `step` (k, n) at `now`, seconds; empty when they would be the last ones again."""
        if step == self._shown:
            return ""
        (k, n), (last, before) = step, self._shown
        if n != before or k < last:
            self._began = (k, now)
            self._pass += 1
        self._shown = step
        left = time_left(k - self._began[0], n - k, now - self._began[1])
        if passes <= 1:
            return f"layer {k}/{n}{left}"
        return f"pass {self._pass} of {passes}, layer {k}/{n}{f'{left} of this pass' if left else ''}"


def say_passes(count: int) -> None:
    """Tell the status line, by way of the log, that every layer will be gone through so many times."""
    print(f"tokenhour: {count} passes over the layers", flush=True)


def passes(log: Path, since: int = 0) -> int:
    """Return how many passes the log announces after its first `since` bytes; 1 when it says nothing."""
    with log.open("rb") as stream:
        stream.seek(since)
        found = _PASSES.search(stream.read(_HEAD_BYTES))
    return int(found[1]) if found else 1


def time_left(steps: int, remaining: int, elapsed_s: float) -> str:
    """Say how long `remaining` steps take at the pace of the `steps` since `elapsed_s`; nothing before one is known."""
    return f", about {human_seconds(round(remaining * elapsed_s / steps))} left" if steps > 0 and remaining > 0 else ""


def last_step(log: Path, since: int = 0) -> tuple[int, int] | None:
    """Return the last layer that the libraries said they work on and how many there are, such as (12, 31).

    The log's first `since` bytes are an earlier run's.
    """
    with log.open("rb") as stream:
        stream.seek(max(since, log.stat().st_size - _TAIL_BYTES))
        tail = stream.read()
    found = [(m.start(), int(m[1]) + k, int(m[2]) + n) for form, k, n in _LAYERS for m in form.finditer(tail)]
    steps = [(k, n) for _, k, n in sorted(found) if 0 < k <= n]
    return steps[-1] if steps else None


def release_memory() -> None:
    """Give back what earlier steps (tokenizing a text, a model that was evaluated) have freed, where the C library can."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


class PeakMemory:
    """Peak resident memory since construction (Linux resets the mark; elsewhere since the process began)."""

    def __init__(self) -> None:
        release_memory()
        # No permission to reset the mark: the peak since the process began is still an upper bound.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """Return the peak in bytes."""
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
        except OSError:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
