"""The load generator: Locust starts and stops the users, the data plane and the records are ours. Imports locust.

`import locust` monkey-patches the process, so this runs as a subprocess, in one of three roles:

    python -m tokenhour.bench.loadgen.main                          one process that does everything
    ... master HOST PORT WORKERS      hands probes on to Locust workers, on this or other machines
    ... worker HOST PORT FOLDER       one of them; its raw records stay with it until they are fetched

The first two read one JSON command a line on standard input ({"plan": file} starts a probe, {"cancel": true} ends it) and
answer in JSON lines on standard output: {"ready"}, {"done": probe}, {"failed": why}.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import tokenhour.bench.loadgen.without_locust_web  # noqa: F401 (before Locust)

# isort: split
import gevent  # noqa: TID253 (this file is the generator)
import numpy as np
from gevent import get_hub, monkey  # noqa: TID253
from gevent.event import AsyncResult, Event  # noqa: TID253
from locust import User, constant, task  # noqa: TID253
from locust.argument_parser import default_args_dict  # noqa: TID253
from locust.env import Environment  # noqa: TID253
from locust.exception import RPCError  # noqa: TID253

from tokenhour.bench.http.event_loop import EventLoop
from tokenhour.bench.loadgen.alarm import Alarm
from tokenhour.bench.loadgen.console import obey, say
from tokenhour.bench.loadgen.probe_plan import ProbePlan
from tokenhour.bench.loadgen.worker_count import WEB_UI_PORT
from tokenhour.bench.recording import raw_files
from tokenhour.bench.recording.frame_log import Spool
from tokenhour.bench.target.openai_api import body, parse_url, request
from tokenhour.bench.workload.prompts import id_maker, text_maker
from tokenhour.bench.workload.request_plan import Ask, Supply
from tokenhour.machine.processes import die_with_parent, raise_file_limit

_SWEEP_S = 0.05  # how often timeouts are looked for and the spool is handed on
_SPAWN_PER_S = 100_000  # users are at once; when they send is the schedule's business
_AHEAD = 16  # requests
_NICE = -10
_LONGEST_SLEEP_NS = 1_000_000_000  # then one looks whether the probe goes on
_AFTER_FAILURE_S = 0.01  # where a request failed without any waiting: a closed loop would do nothing else but fail


class RunningProbe:
    """A probe that runs: its plan, what is still to be asked, and whether it goes on."""

    def __init__(self, plan: ProbePlan, plane: EventLoop, alarm: Alarm, text: Any) -> None:
        self.plan = plan
        self.plane = plane
        self.alarm = alarm
        self.where = parse_url(plan.base_url)
        self.supply = Supply(plan.talks, len(range(plan.worker, plan.cut, plan.workers)), plan.workers)
        self.prompt: Callable[[Ask], list[int] | str]
        if plan.dialect.token_ids:
            self.prompt = id_maker(text, plan.salt, plan.prefix_tokens)
        else:
            self.prompt = text_maker(text, plan.salt, plan.prefix_tokens, plan.tokenizer, plan.template_tokens)
        self.key = os.environ.get(plan.key_env)
        self.ends_ns = plan.start_ns + int(plan.horizon_s * 1e9)
        self.cancelled = False
        self.running = 0
        self.finished = Event()
        self.walked = False
        self.failed = ""
        """Why it could not go on, other than for a full disk."""

    def prepare(self, ask: Ask) -> tuple[bytes, bytes]:
        """Build a request before its time: (what the record will say of it, the bytes)."""
        name = f"{self.plan.probe}-{ask.serial}"
        about = json.dumps({"id": name, "prompt": ask.prompt_tokens, "output": ask.output_tokens}).encode()
        asked = body(self.plan.dialect, self.plan.model_id, self.prompt(ask), ask.output_tokens)
        return about, request(self.where, self.plan.dialect, asked, name, self.key)

    def exchange(self, ask: Ask, due_ns: int, ready: tuple[bytes, bytes] | None = None) -> str:
        """Send one request and wait for its end; return the reason of failure, or nothing."""
        about, data = ready or self.prepare(ask)
        answer = AsyncResult()
        self.plane.send(ask.serial, about, data, due_ns, answer.set)
        if answer.ready():
            gevent.sleep(_AFTER_FAILURE_S)
        reason: str = answer.get()
        return reason

    def fire(self, talk: list[Ask], due_ns: int, ready: tuple[bytes, bytes]) -> None:
        """Start an arrival: a request whose end nobody waits for, or a whole conversation."""
        self.running += 1
        if len(talk) == 1:
            self.plane.send(talk[0].serial, *ready, due_ns, self._one_over)
        else:
            talking = gevent.spawn(self._converse, talk, due_ns, ready)
            talking.link_exception(lambda g: self.fail(f"the load generator failed: {g.exception!r}"))

    def _one_over(self, _reason: str) -> None:
        self.running -= 1

    def _converse(self, talk: list[Ask], due_ns: int, ready: tuple[bytes, bytes]) -> None:
        self.converse(talk, due_ns, ready)
        self.running -= 1

    def converse(self, talk: list[Ask], due_ns: int, ready: tuple[bytes, bytes] | None = None) -> None:
        """Ask turn after turn; a failed one ends the conversation, and so does the end of the load."""
        pause_ns = int(self.plan.think_s * 1e9)
        for ask in talk:
            if self.exchange(ask, due_ns, ready) or self.cancelled:
                return
            ready = None
            due_ns = time.monotonic_ns() + pause_ns
            if due_ns >= self.ends_ns:
                return
            self.sleep_until(due_ns)

    def sleep_until(self, due_ns: int) -> None:
        """Sleep to an absolute time, or until the probe is cancelled: at a low rate the next arrival may be minutes away."""
        asleep = True
        while asleep and not self.cancelled:  # also where it has passed: others want their turn
            asleep = due_ns - time.monotonic_ns() > _LONGEST_SLEEP_NS
            self.alarm.sleep_until(min(due_ns, time.monotonic_ns() + _LONGEST_SLEEP_NS))

    def over(self) -> bool:
        """Tell whether a closed loop has come to its end."""
        return self.cancelled or time.monotonic_ns() >= self.ends_ns

    def take(self) -> list[Ask] | None:
        """Hand out the next conversation of a closed loop; None when the probe is over."""
        if self.over() or not self.plan.talks:
            return None
        return self.supply.take()

    def cancel(self) -> None:
        """Send nothing more, and let go of what is under way."""
        self.cancelled = True
        self.plane.abandon()

    def fail(self, why: str) -> None:
        """End it for a reason that is not the server's."""
        self.failed = self.failed or why
        self.cancel()
        self.finished.set()


class LoadUser(User):
    """A Locust user: in a closed loop one of many, in an open loop the one that keeps the worker's schedule."""

    wait_time = constant(0)

    @task
    def work(self) -> None:
        """Do what the current probe wants of this user, then wait to be stopped."""
        probe: RunningProbe | None
        while (probe := self.environment.parsed_options.probe) is None or probe.finished.is_set():
            gevent.sleep(0.01)  # the plan is still on its way
        try:
            if probe.plan.concurrency is None:
                keep_schedule(probe)
            else:
                loop_closed(probe)
        except Exception as error:
            probe.fail(f"the load generator failed: {error!r}")
            raise  # Locust prints it and calls this once more, which waits for the next probe then
        gevent.sleep(3600)


def keep_schedule(probe: RunningProbe) -> None:
    """Walk through the schedule once: prepare requests ahead of their times, sleep to each absolute time, send."""
    if probe.walked:
        return
    probe.walked = True
    for talk, due, ready in prepared(probe):
        probe.sleep_until(due)
        if probe.cancelled or probe.plane.broken:
            break
        probe.fire(talk, due, ready)
    while probe.running and not probe.plane.broken:
        gevent.sleep(_SWEEP_S)
    probe.finished.set()


def prepared(probe: RunningProbe) -> Iterator[tuple[list[Ask], int, tuple[bytes, bytes]]]:
    """Yield (conversation, due time, first request) in order; later ones are prepared while there is time before the next.

    So that of arrivals that come at once the second does not wait for its prompt.
    """
    waiting: deque[tuple[list[Ask], int, tuple[bytes, bytes]]] = deque()
    longest_ns = 0
    for talk in probe.plan.talks:
        due = probe.plan.start_ns + int((talk[0].at_s or 0.0) * 1e9)
        while waiting and (len(waiting) >= _AHEAD or waiting[0][1] - time.monotonic_ns() < 2 * longest_ns):
            yield waiting.popleft()
        began = time.monotonic_ns()
        waiting.append((talk, due, probe.prepare(talk[0])))
        # The longest so far, and not of late: preparing ahead must not make the next one late on a busy machine.
        longest_ns = max(longest_ns, time.monotonic_ns() - began)
    yield from waiting


def loop_closed(probe: RunningProbe) -> None:
    """Send the next request when the last one has ended."""
    probe.sleep_until(probe.plan.start_ns)
    probe.running += 1
    while (talk := probe.take()) is not None and not probe.plane.broken:
        probe.converse(talk, time.monotonic_ns())
    probe.running -= 1


_NO_RECORDER = "the process that records the requests ended"


class Recorder:
    """The process that turns this worker's spool into rows, behind it."""

    def __init__(self) -> None:
        environment = {**os.environ, "TOKENHOUR_PARENT_PID": str(os.getpid())}
        words = [sys.executable, "-m", "tokenhour.bench.recording.recorder"]
        # A session of its own: what is raised for the generator must not put its recorder before the engine.
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )

    def tell(self, order: dict[str, Any]) -> None:
        """Send an order."""
        if self.process.stdin is None:
            raise AssertionError
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def ended(self) -> bool:
        """Tell whether it has been killed, or has failed."""
        return self.process.poll() is not None

    def finish(self) -> str:
        """Wait until all is recorded; return what went wrong, or nothing."""
        with contextlib.suppress(BrokenPipeError):  # it has ended: reading says so
            self.tell({"end": True})
        if self.process.stdout is None:
            raise AssertionError
        line = self.process.stdout.readline()
        return str(json.loads(line).get("failed", "")) if line else _NO_RECORDER


class Worker:
    """What one process needs to run probes: the connections, the recorder, the current probe."""

    # What Locust asks of the options that this stands for.
    web_base_path = ""
    enable_rebalancing = False

    def __init__(self) -> None:
        self.probe: RunningProbe | None = None
        self.recorder = Recorder()
        self.plane: EventLoop | None = None
        self.alarm = Alarm()
        self.url = ""
        self.text: Any = None

    @classmethod
    def bare(cls) -> Worker:
        """Return one that never works: a master's."""
        return cls.__new__(cls)

    def begin(self, plan: ProbePlan) -> RunningProbe:
        """Make ready for a probe, before its start. Raises OSError (`why_not` says it in words)."""
        if self.plane is not None and self.url != plan.base_url:
            self.plane.shut()
            self.plane = None
        if self.plane is None:
            self.url = plan.base_url
            where = parse_url(plan.base_url)
            self.plane = EventLoop(get_hub().loop, epoll(), where.host, where.port, tls=where.tls)
        self.text = np.load(plan.raw / raw_files.CORPUS) if self.text is None else self.text
        spool = raw_files.spool_file(plan.raw, plan.probe, plan.worker)
        self.plane.spool = Spool(spool)
        self.recorder.tell({"spool": str(spool), "zero_ns": plan.zero_ns})
        self.probe = RunningProbe(plan, self.plane, self.alarm, self.text)
        gc.collect()
        gc.freeze()
        gevent.spawn(self._housekeeping, self.probe)
        return self.probe

    def cancel(self) -> None:
        """End the probe's arrivals."""
        if self.probe is not None:
            self.probe.cancel()

    def _housekeeping(self, probe: RunningProbe) -> None:
        plan, plane = probe.plan, probe.plane
        limits = int(plan.inactivity_timeout_s * 1e9), int(plan.timeout_s * 1e9)
        while not probe.finished.is_set():
            plane.overdue(*limits)
            plane.flush()
            if plane.broken:
                probe.cancel()
            if self.recorder.ended():
                probe.fail(_NO_RECORDER)
            closed_over = plan.concurrency is not None and not probe.running and probe.over()
            if plane.broken or closed_over:
                probe.finished.set()
            gevent.sleep(_SWEEP_S)

    def conclude(self, probe: RunningProbe) -> str:
        """Close the spool and wait for the recorder; return what went wrong, or nothing."""
        plane = probe.plane
        broken = plane.broken
        try:
            if plane.spool is not None:
                plane.spool.close()
        except OSError as error:
            broken = broken or error
        plane.spool, plane.broken = None, None
        said = self.recorder.finish()
        if broken is None and not said:
            raw_files.spool_file(probe.plan.raw, probe.plan.probe, probe.plan.worker).unlink(missing_ok=True)
        gc.unfreeze()
        return self.why_not(broken) if broken else probe.failed or said

    @staticmethod
    def why_not(error: OSError) -> str:
        """Say why a probe cannot begin, or go on."""
        if isinstance(error, BrokenPipeError):
            return _NO_RECORDER
        if isinstance(error, socket.gaierror):
            return f"the server's name is not known here: {error.strerror}"
        return f"the records cannot be written: {error.strerror}"

    def leave(self) -> None:
        """Hand on what has been received, before the process ends in the middle of a probe."""
        if self.plane is not None:
            self.plane.flush()


def run_alone() -> None:
    """Obey commands on standard input as the only worker."""
    worker = Worker()
    environment = Environment(user_classes=[LoadUser], parsed_options=worker)
    runner = environment.create_local_runner()
    web = web_ui(environment)
    say({"ready": os.getpid()})
    obey(partial(_run_probe, runner, worker), worker.cancel)
    worker.leave()
    if web:
        web.stop()


def epoll() -> Any:
    """Return a new select.epoll, which gevent hides; None where the system has none."""
    try:
        return monkey.get_original("select", "epoll")()
    except AttributeError:
        return None


def _run_probe(runner: Any, worker: Worker, plan: ProbePlan) -> str:
    try:
        probe = worker.begin(plan)
    except OSError as error:
        return worker.why_not(error)
    runner.start(plan.concurrency or 1, spawn_rate=_SPAWN_PER_S)
    probe.finished.wait()
    runner.stop()
    return worker.conclude(probe)


def web_ui(environment: Environment) -> Any:
    """Start Locust's web page where a port was named for it."""
    port = os.environ.get(WEB_UI_PORT)
    if not port:
        return None
    for name, value in default_args_dict().items():  # the page shows Locust's own options
        if not hasattr(environment.parsed_options, name):
            setattr(environment.parsed_options, name, value)
    return environment.create_web_ui("127.0.0.1", int(port))


def main() -> None:
    """Take the role from the arguments."""
    parent = os.environ.pop("TOKENHOUR_PARENT_PID", "")
    if parent:
        die_with_parent(int(parent))
    raise_file_limit()
    logging.getLogger("locust.runners").setLevel(logging.ERROR)  # it warns of spawning users at once, which is meant
    match sys.argv[1:]:
        case ["master", host, port, count]:
            from tokenhour.bench.loadgen.distributed import run_master

            try:
                run_master(
                    Environment(user_classes=[LoadUser], parsed_options=Worker.bare()), host, int(port), int(count), web_ui
                )
            except RPCError as error:  # such as an address that is not this machine's
                say({"failed": f"the master of the load workers, at {host}:{port}: {error}"})
        case ["worker", host, port, folder]:
            from tokenhour.bench.loadgen.distributed import run_worker

            worker = Worker()
            if not parent:  # joined by hand, maybe on the engine's machine, where nobody else raises it
                with contextlib.suppress(OSError):
                    os.nice(_NICE)
            run_worker(Environment(user_classes=[LoadUser], parsed_options=worker), worker, host, int(port), Path(folder))
        case _:
            run_alone()
            # All is recorded. Taking Locust and its threads apart would be a tenth of a second more of every run.
            os._exit(0)


if __name__ == "__main__":
    main()
