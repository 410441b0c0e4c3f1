"""Several load processes: Locust's master hands each its stripe of a probe, and their rows come together in its folder.

Part of the generator's process (see `main`). Workers on the same machine write there themselves. Those of other machines
have a folder of their own: their rows travel to the master while the probe runs, byte for byte. Clocks of other machines are
compared by the fastest of many exchanges.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent  # noqa: TID253 (part of the generator)
from gevent.event import AsyncResult  # noqa: TID253

from tokenhour.bench.loadgen.console import obey, say
from tokenhour.bench.loadgen.probe_plan import ProbePlan
from tokenhour.bench.recording import raw_files

_JOIN_S = 120.0
_EXCHANGES = 21
_ROWS_EVERY_S = 0.4
_PIECE_BYTES = 1 << 20
_SPAWN_PER_S = 100_000
_MOST_CLOCK_ERROR_NS = 50_000_000
"""Latencies are one machine's own affair; what a window holds, and how the stripes interleave, is known to this only."""
_LOST = "missing"  # Locust's name for a worker whose heartbeat has stopped


def boot_id() -> str:
    """Return what two processes on one machine agree on: their monotonic clocks are the same then."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def clock_offset_ns(exchanges: list[tuple[int, int, int]]) -> tuple[int, int]:
    """Return (master's clock less ours, its largest error) in ns from (asked, master's time, answered) triples.

    The fastest exchange tells most: the error is at most half of its round trip (as in NTP, RFC 5905).
    """
    asked, theirs, answered = min(exchanges, key=lambda e: e[2] - e[0])
    return theirs - (asked + answered) // 2, (answered - asked) // 2


def unsure_of(error_ns: int) -> str:
    """Say that the master's clock is not known well enough here, or nothing."""
    if error_ns <= _MOST_CLOCK_ERROR_NS:
        return ""
    return (
        f"a worker's clock is known to {error_ns / 1e6:.0f} ms only (limit {_MOST_CLOCK_ERROR_NS / 1e6:.0f} ms): "
        "its network is too slow, or busy"
    )


def cpu_sample(said: dict[str, Any]) -> list[Any]:
    """Return a worker's CPU seconds as a line of telemetry."""
    return [said["t_s"], "generator", f"worker {said['worker']}", "cpu_s_total", said["cpu_s"]]


class Master:
    """Locust's master with the workers that have joined."""

    def __init__(self, environment: Any, host: str, port: int, count: int) -> None:
        self.runner = environment.create_master_runner(host, port)
        self.count = count
        self.ids: list[str] = []
        self.raw = Path()
        self.waiting: set[int] = set()
        self.failed = ""
        self.sent_files = False
        self.heed = self.runner.handle_message
        self.runner.handle_message = self.on_message
        for name in ("rows", "cpu", "probe-done", "ping"):
            self.runner.register_message(name, getattr(self, f"on_{name.replace('-', '_')}"))

    def wait_for_workers(self) -> bool:
        """Wait until all have joined; False when they do not come."""
        deadline = time.monotonic() + _JOIN_S
        while len(self.runner.clients) < self.count:
            if time.monotonic() > deadline:
                return False
            gevent.sleep(0.05)
        self.ids = sorted(self.runner.clients)[: self.count]
        for extra in set(self.runner.clients) - set(self.ids):
            del self.runner.clients[extra]
        return True

    def on_message(self, client_id: str, msg: Any) -> None:
        """Let Locust see the messages of the workers that are wanted, and send away all others.

        Locust would share the users among all that join, so that a worker with a part of the schedule may get none.
        """
        if not self.ids or client_id in self.ids:
            self.heed(client_id, msg)
        elif msg.type == "client_ready":  # it waits for this; its next message, a heartbeat, is answered
            self.runner.send_message("ack", client_id=client_id)
        else:
            self.runner.send_message("quit", client_id=client_id)

    def on_ping(self, msg: Any, **_: Any) -> None:
        """Tell a worker this machine's time."""
        self.runner.send_message("pong", {**msg.data, "ns": time.monotonic_ns(), "boot": boot_id()}, msg.node_id)

    def on_rows(self, msg: Any, **_: Any) -> None:
        """Append the rows of a worker of another machine to its file here."""
        self._append(raw_files.rows_file(self.raw, msg.data["probe"], msg.data["worker"]), zlib.decompress(msg.data["data"]))

    def on_cpu(self, msg: Any, **_: Any) -> None:
        """Keep what a worker of another machine says of its CPU beside the telemetry of this one."""
        self._append(self.raw / raw_files.WORKERS_CPU, json.dumps(cpu_sample(msg.data)).encode() + b"\n")

    def _append(self, file: Path, data: bytes) -> None:
        try:
            with file.open("ab") as sink:
                sink.write(data)
        except OSError as error:
            self.failed = f"the records cannot be written: {error.strerror}"

    def on_probe_done(self, msg: Any, **_: Any) -> None:
        """Note that a worker is through."""
        self.failed = self.failed or msg.data["failed"]
        self.waiting.discard(msg.data["worker"])

    def run(self, plan: ProbePlan) -> str:
        """Run a probe on all workers; return what went wrong, or nothing."""
        self.raw, self.failed = plan.raw, ""
        self.waiting = set(range(self.count))
        files: dict[str, bytes] = {}
        if plan.joined and not self.sent_files:
            files[raw_files.CORPUS] = (plan.raw / raw_files.CORPUS).read_bytes()
            if plan.tokenizer:
                files[raw_files.TOKENIZER] = Path(plan.tokenizer).read_bytes()
            self.sent_files = True
        for number, name in enumerate(self.ids):
            message = {"worker": number, "plan": plan.stripe(number).as_json(), "files": files}
            self.runner.send_message("probe", message, name)
        self.runner.start(plan.concurrency or self.count, spawn_rate=_SPAWN_PER_S)
        while self.waiting and not self.failed:
            gone = [n for n in self.ids if n not in self.runner.clients or self.runner.clients[n].state == _LOST]
            if gone:
                self.failed = f"{len(gone)} of {self.count} load workers were lost"
            gevent.sleep(0.05)
        self.runner.stop()
        return self.failed

    def cancel(self) -> None:
        """End the probe's arrivals everywhere."""
        self.runner.send_message("cancel", {})


def run_master(environment: Any, host: str, port: int, count: int, web_ui: Callable[[Any], Any]) -> None:
    """Obey commands on standard input by handing them on."""
    master = Master(environment, host, port, count)
    web = web_ui(environment)
    if not master.wait_for_workers():
        say({"failed": f"only {len(master.runner.clients)} of {count} load workers joined within {_JOIN_S:.0f} s"})
        return
    say({"ready": os.getpid()})
    obey(master.run, master.cancel)
    master.runner.quit()
    if web:
        web.stop()


class Hand:
    """A worker: takes its stripe, runs it on its own clock, sends its rows to the master."""

    def __init__(self, environment: Any, worker: Any, host: str, port: int, folder: Path) -> None:
        self.worker, self.folder = worker, folder
        self.pongs: dict[int, AsyncResult] = {}
        self.numbers = itertools.count()
        self.worked = False
        self.runner = environment.create_worker_runner(host, port)
        for name in ("probe", "cancel", "pong"):
            self.runner.register_message(name, getattr(self, f"on_{name}"))

    def on_pong(self, msg: Any, **_: Any) -> None:
        """Hand the master's time to whoever asked."""
        self.pongs[msg.data["number"]].set((msg.data["ns"], msg.data["boot"]))

    def on_cancel(self, **_: Any) -> None:
        """End the probe's arrivals."""
        self.worker.cancel()

    def clock(self) -> tuple[int, int]:
        """Compare clocks with the master: (its time less ours, largest error), ns; exactly 0 on one machine."""
        found = []
        for _ in range(_EXCHANGES):
            number = next(self.numbers)
            self.pongs[number] = AsyncResult()
            asked = time.monotonic_ns()
            self.runner.send_message("ping", {"number": number})
            theirs, boot = self.pongs[number].get(timeout=10)
            if boot and boot == boot_id():
                return 0, 0
            found.append((asked, theirs, time.monotonic_ns()))
        return clock_offset_ns(found)

    def on_probe(self, msg: Any, **_: Any) -> None:
        """Run a probe, beside the messages that come meanwhile."""
        self.worked = True
        greenlet = gevent.spawn(self.run, **msg.data)
        greenlet.link_exception(lambda g: self._done(msg.data["worker"], f"a load worker failed: {g.exception!r}"))

    def run(self, worker: int, plan: dict[str, Any], files: dict[str, bytes]) -> None:
        """Run a probe as so-and-so many-th worker, and send what it recorded to a master on another machine."""
        here, error_ns = self._localise(ProbePlan.of(plan), files)
        if unsure := unsure_of(error_ns):
            self._done(worker, unsure)
            return
        try:
            probe = self.worker.begin(here)
        except OSError as error:
            self._done(worker, self.worker.why_not(error))
            return
        sent = 0
        if here.joined:
            self._send_cpu(here)
        while here.joined and not probe.finished.wait(_ROWS_EVERY_S):
            self._send_cpu(here)
            sent = self._send_rows(here, sent)
        probe.finished.wait()
        if here.joined:
            self._send_cpu(here)
        failed = self.worker.conclude(probe)
        if here.joined:
            self._send_rows(here, sent)
        self._done(worker, failed)

    def _localise(self, plan: ProbePlan, files: dict[str, bytes]) -> tuple[ProbePlan, int]:
        """Put times on this machine's clock, and the files of a worker that joined into its folder.

        Also return the clock's largest error, ns.
        """
        offset, error = self.clock()
        plan = replace(plan, zero_ns=plan.zero_ns - offset, start_ns=plan.start_ns - offset)
        if plan.joined:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, data in files.items():
                (self.folder / name).write_bytes(data)
            tokenizer = str(self.folder / raw_files.TOKENIZER) if plan.tokenizer else None
            plan = replace(plan, raw=self.folder, tokenizer=tokenizer)
        return plan, error

    def _send_rows(self, plan: ProbePlan, sent: int) -> int:
        """Send the whole lines that are new; return how far they reach."""
        rows = raw_files.rows_file(plan.raw, plan.probe, plan.worker)
        while rows.is_file():
            with rows.open("rb") as stream:
                stream.seek(sent)
                data = stream.read(_PIECE_BYTES)
                if b"\n" not in data:  # a row of many chunks
                    data += stream.readline()
            end = data.rfind(b"\n") + 1
            if not end:
                break
            sent += end
            about = {"probe": plan.probe, "worker": plan.worker}
            self.runner.send_message("rows", about | {"data": zlib.compress(data[:end], 1)})
        return sent

    def _send_cpu(self, plan: ProbePlan) -> None:
        """Send this process's CPU seconds with the time, which `_localise` has put on the run's clock."""
        t_s = (time.monotonic_ns() - plan.zero_ns) / 1e9
        self.runner.send_message("cpu", {"worker": plan.worker, "t_s": round(t_s, 6), "cpu_s": time.process_time()})

    def _done(self, worker: int, failed: str) -> None:
        self.runner.send_message("probe-done", {"worker": worker, "failed": failed})


def run_worker(environment: Any, worker: Any, host: str, port: int, folder: Path) -> None:
    """Join the master and work until it leaves. Ends the process with 1 where there is none."""
    try:
        hand = Hand(environment, worker, host, port, folder)
    except ConnectionError:  # Locust's, after five minutes
        print(f"error: {host}:{port}: no master answers there\n  remedy: start the measurement first", file=sys.stderr)
        sys.exit(1)
    try:
        hand.runner.greenlet.join()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        worker.leave()
    if not hand.worked:
        print("the master sent no work: it had its workers already, or the run ended before its load", file=sys.stderr)
