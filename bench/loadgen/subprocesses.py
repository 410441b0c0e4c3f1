"""The processes of a run: the load generator (or Locust's master and workers) and telemetry, and the talk with them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tokenhour.bench.loadgen.cpu_priority import generator_first, listeners
from tokenhour.bench.loadgen.worker_count import Workers
from tokenhour.bench.recording import raw_files
from tokenhour.bench.target.discovery import Target
from tokenhour.contracts.errors import RunFailedError
from tokenhour.contracts.records.probe import CpuPriority


@dataclass(frozen=True, slots=True)
class Crew:
    """The processes that make the load."""

    generator: subprocess.Popen[bytes]
    """The only one, or Locust's master."""
    hands: tuple[subprocess.Popen[bytes], ...] = ()
    """Its workers on this machine."""
    workers: int = 1
    joined: bool = False
    """The workers are on other machines, where no process of ours but themselves can read their CPU."""
    priority: CpuPriority | None = None
    """How they share the CPU with the engine."""


@contextlib.contextmanager
def children(target: Target, raw: Path, zero_ns: int, workers: Workers) -> Iterator[Crew]:
    """Start generator and telemetry, before the engine where they share its cores; they end with the block or this process.

    Each leads a session of its own: a terminal's Ctrl-C does not reach it, and the kernel weighs it by itself.
    """
    environment = {**os.environ, "TOKENHOUR_PARENT_PID": str(os.getpid())}
    role, hand_roles = _roles(workers, raw)
    orders = {
        "file": str(raw / raw_files.TELEMETRY),
        "zero_ns": zero_ns,
        "hz": target.spec.telemetry_hz,
        "gpu": target.accelerator.kind == "cuda" and bool(target.engine_pids),
        "gpus": list(target.gpus),
        "metrics_urls": list(target.metrics_urls),
        "key_env": target.key_env,
        "engines": list(target.engine_pids),
        "joined": workers.host is not None,
    }
    words = [sys.executable, "-m", "tokenhour.bench.loadgen.main"]
    started: list[subprocess.Popen[bytes]] = []

    def start(words: list[str], stdin: int, stdout: int | None = None) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(words, stdin=stdin, stdout=stdout, env=environment, start_new_session=True))
        return started[-1]

    try:
        generator = start([*words, *role], subprocess.PIPE, subprocess.PIPE)
        hands = tuple(start([*words, *hand], subprocess.DEVNULL) for hand in hand_roles)
        if workers.host is not None:
            print(f"   waiting for {workers.count} load workers: {workers.invitation()}", file=sys.stderr)
        _wait_ready(generator)
        # Only now: the two would take turns on the cores while they are loaded.
        generators = [child.pid for child in started]
        orders["generators"] = generators
        telemetry = start([sys.executable, "-m", "tokenhour.bench.telemetry.sampler", json.dumps(orders)], subprocess.PIPE)
        engines = target.engine_pids or listeners(target.base_url)
        with generator_first(generators, telemetry.pid, engines) as priority:
            yield Crew(generator, hands, workers.count, joined=workers.host is not None, priority=priority)
    finally:
        for child in started:
            _let_go(child)
        for child in started:
            _end(child)


def _roles(workers: Workers, raw: Path) -> tuple[list[str], list[list[str]]]:
    """Return the generator's role, and those of the workers to start here."""
    if workers.alone:
        return [], []
    if workers.host is not None:
        return ["master", workers.host, str(workers.port), str(workers.count)], []
    port = str(free_port())
    return ["master", "127.0.0.1", port, str(workers.count)], [["worker", "127.0.0.1", port, str(raw)]] * workers.count


def free_port() -> int:
    """Return a port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_ready(generator: subprocess.Popen[bytes]) -> None:
    """Wait for the generator's first line: Locust has been loaded, and all workers are there."""
    line = generator.stdout.readline() if generator.stdout else b""
    said = json.loads(line) if line else {}
    if "ready" not in said:
        what = said.get("failed", "the load generator did not start")
        raise RunFailedError(what, where="tokenhour.bench.loadgen.main", remedy="see its output above, or `make doctor`")


def tell(process: subprocess.Popen[bytes], order: dict[str, Any]) -> None:
    """Send a command to a child."""
    pipe = process.stdin
    if pipe is None:
        raise AssertionError
    try:
        pipe.write(json.dumps(order).encode() + b"\n")
        pipe.flush()
    except BrokenPipeError as error:
        raise RunFailedError(
            "the load generator ended", where="tokenhour.bench.loadgen.main", remedy="see its output above"
        ) from error


def said_done(crew: Crew, timeout_s: float, where: str) -> bool:
    """Tell whether the generator says, within a while, that the probe is done; raises RunFailedError when one ended."""
    pipe = crew.generator.stdout
    if pipe is None:
        raise AssertionError
    for hand in crew.hands:
        if hand.poll() is not None:
            raise RunFailedError("a load worker ended", where="tokenhour.bench.loadgen.main", remedy="see its output above")
    if not select.select([pipe], [], [], timeout_s)[0]:
        return False
    line = pipe.readline()
    if not line:
        raise RunFailedError("the load generator ended", where="tokenhour.bench.loadgen.main", remedy="see its output above")
    said = json.loads(line)
    if "failed" in said:
        raise RunFailedError(said["failed"], where=where, remedy="remove the cause and measure again")
    return "done" in said


def _let_go(child: subprocess.Popen[bytes]) -> None:
    """Tell a child that its work is over."""
    with contextlib.suppress(BrokenPipeError):
        if child.stdin is not None:
            child.stdin.close()


def _end(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(2.0)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout is not None:
        child.stdout.close()


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C: what was recorded is kept and summarised as INVALID."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
