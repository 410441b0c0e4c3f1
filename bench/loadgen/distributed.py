"""Several load processes: Locust's master hands each its stripe of a probe, they send their rows back, it merges them.

Part of the generator's process (see `main`). Workers keep their own raw records in a folder of their own; the
rows travel to the master while the probe runs. Clocks of other machines are compared by the fastest of many exchanges.
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
from pathlib import Path
from typing import Any

import gevent  # noqa: TID253 (part of the generator)
import numpy as np
from gevent.event import AsyncResult  # noqa: TID253
from gevent.fileobject import FileObject  # noqa: TID253

from tokenhour.bench.loadgen.console import say, say_failed

_JOIN_S = 120.0
_EXCHANGES = 21
_ROWS_EVERY_S = 0.4
_PIECE_BYTES = 1 << 20
_SPAWN_PER_S = 100_000
_MOST_CLOCK_ERROR_NS = 50_000_000
"""Latencies are one machine's own affair; what a window holds, and how the stripes interleave, is known to this only."""
_LOST = "missing"  # Locust's name for a worker whose heartbeat has stopped


def stripe(plan: dict[str, Any], number: int, count: int) -> dict[str, Any]:
    """Return worker `number`'s part of a plan: every `count`-th arrival, under the same clock."""
    return {**plan, "asks": plan["asks"][number::count], "worker": number, "workers": count}


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
        self.plan: dict[str, Any] = {}
        self.waiting: set[int] = set()
        self.failed = ""
        self.sent_corpus = False
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

    def on_ping(self, environment: Any, msg: Any, **_: Any) -> None:
        """Tell a worker this machine's time."""
        del environment
        self.runner.send_message("pong", {**msg.data, "ns": time.monotonic_ns(), "boot": boot_id()}, msg.node_id)

    def on_rows(self, environment: Any, msg: Any, **_: Any) -> None:
        """Append a worker's rows to its file here."""
        del environment
        file = f"{self.plan['rows_stem']}-{msg.data['worker']}.jsonl"
        try:
            with open(file, "ab") as sink:  # noqa: PTH123 (a name built from a stem)
                sink.write(zlib.decompress(msg.data["data"]))
        except OSError as error:
            self.failed = f"the records cannot be written: {error.strerror}"

    def on_cpu(self, environment: Any, msg: Any, **_: Any) -> None:
        """Keep what a worker of another machine says of its CPU beside the telemetry of this one."""
        del environment
        if not self.plan["cpu_samples"]:  # workers of this machine are sampled with everything else
            return
        try:
            with Path(self.plan["cpu_samples"]).open("a", encoding="utf-8") as sink:
                sink.write(json.dumps(cpu_sample(msg.data)) + "\n")
        except OSError as error:
            self.failed = f"the records cannot be written: {error.strerror}"

    def on_probe_done(self, environment: Any, msg: Any, **_: Any) -> None:
        """Note that a worker is through."""
        del environment
        self.failed = self.failed or msg.data["failed"]
        self.waiting.discard(msg.data["worker"])

    def run(self, plan: dict[str, Any]) -> str:
        """Run a probe on all workers; return what went wrong, or nothing."""
        self.plan, self.failed = plan, ""
        self.waiting = set(range(self.count))
        extra: dict[str, Any] = {}
        if not self.sent_corpus:
            extra["corpus_bytes"] = np.load(plan["corpus"]).astype(np.int64).tobytes()
            extra["tokenizer_bytes"] = Path(plan["tokenizer"]).read_bytes() if plan["tokenizer"] else b""
            self.sent_corpus = True
        for number, name in enumerate(self.ids):
            self.runner.send_message("probe", {**stripe(plan, number, self.count), **extra}, name)
        self.runner.start(plan["concurrency"] or self.count, spawn_rate=_SPAWN_PER_S)
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

    def probe(plan: dict[str, Any]) -> None:
        failed = master.run(plan)
        say({"failed": failed, "probe": plan["probe"]} if failed else {"done": plan["probe"]})

    for line in FileObject(sys.stdin.buffer, "rb"):
        order = json.loads(line)
        if order.get("cancel"):
            master.cancel()
            continue
        gevent.spawn(probe, json.loads(Path(order["plan"]).read_text(encoding="utf-8"))).link_exception(say_failed)
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

    def on_pong(self, environment: Any, msg: Any, **_: Any) -> None:
        """Hand the master's time to whoever asked."""
        del environment
        self.pongs[msg.data["number"]].set((msg.data["ns"], msg.data["boot"]))

    def on_cancel(self, environment: Any, msg: Any, **_: Any) -> None:
        """End the probe's arrivals."""
        del environment, msg
        if self.worker.probe is not None:
            self.worker.probe.cancel()

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

    def on_probe(self, environment: Any, msg: Any, **_: Any) -> None:
        """Run a probe, beside the messages that come meanwhile."""
        del environment
        self.worked = True
        greenlet = gevent.spawn(self.run, dict(msg.data))
        greenlet.link_exception(lambda g: self._done(msg.data, f"a load worker failed: {g.exception!r}"))

    def run(self, plan: dict[str, Any]) -> None:
        """Run a probe and send what it recorded."""
        plan = self._localise(plan)
        rows = Path(plan["rows"])
        if unsure := unsure_of(plan["clock_error_ns"]):
            self._done(plan, unsure)
            return
        try:
            probe = self.worker.begin(plan)
        except OSError as error:
            self._done(plan, self.worker.why_not(error))
            return
        sent = 0
        self._send_cpu(plan)
        while not probe.finished.wait(_ROWS_EVERY_S):
            sent = self._send_rows(plan, rows, sent)
            self._send_cpu(plan)
        self._send_cpu(plan)
        failed = self.worker.conclude(probe)
        self._send_rows(plan, rows, sent)
        self._done(plan, failed)

    def _localise(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Put times on this machine's clock and files into this worker's folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        offset, error = self.clock()
        plan |= {"zero_ns": plan["zero_ns"] - offset, "start_ns": plan["start_ns"] - offset, "clock_error_ns": error}
        corpus, tokenizer = self.folder / "corpus.npy", self.folder / "tokenizer.json"
        if data := plan.pop("corpus_bytes", b""):
            np.save(corpus, np.frombuffer(data, dtype=np.int64))
        if data := plan.pop("tokenizer_bytes", b""):
            tokenizer.write_bytes(data)
        stem = f"{plan['probe']}-{plan['worker']}"
        plan |= {"corpus": str(corpus), "tokenizer": str(tokenizer) if plan["tokenizer"] else None}
        return plan | {"spool": str(self.folder / f"spool-{stem}.bin"), "rows": str(self.folder / f"requests-{stem}.jsonl")}

    def _send_rows(self, plan: dict[str, Any], rows: Path, sent: int) -> int:
        """Send the whole lines that are new; return how far they reach."""
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
            self.runner.send_message("rows", {"worker": plan["worker"], "data": zlib.compress(data[:end], 1)})
        return sent

    def _send_cpu(self, plan: dict[str, Any]) -> None:
        """Send this process's CPU seconds with the time, which `_localise` has put on the run's clock."""
        t_s = (time.monotonic_ns() - plan["zero_ns"]) / 1e9
        self.runner.send_message("cpu", {"worker": plan["worker"], "t_s": round(t_s, 6), "cpu_s": time.process_time()})

    def _done(self, plan: dict[str, Any], failed: str) -> None:
        self.runner.send_message("probe-done", {"worker": plan["worker"], "failed": failed})


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
