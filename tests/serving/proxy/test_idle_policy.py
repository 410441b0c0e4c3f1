"""From raw idle events to the saving and the penalty: pure, checked by hand and by property."""

import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.records import server as server_record
from tests.serving.launch.test_argv import experiment
from tokenhour.contracts.config.operations import IdleSpec
from tokenhour.contracts.standalone.idle import IdleEvent, IdleRecord
from tokenhour.machine.run_folder import RunDir
from tokenhour.serving.proxy.idle_policy import (
    IdlePolicy,
    SleepMode,
    derive,
    mean_interval,
    read_events,
    settle,
    write_record,
)

pytestmark = pytest.mark.system

STOP = IdleSpec(policy="stop", after_s=60)
WHEN = "2026-01-01T00:00:00+00:00"


def event(kind: Literal["up", "asleep", "awake", "down"], at_s: float, **fields: Any) -> IdleEvent:
    """Make an event at a second of the server's life."""
    return IdleEvent(kind, at_s, WHEN, **fields)


def test_a_day_with_two_rests_is_added_up() -> None:
    """Time asleep, released GPU-hours and the wake penalty with its interval match a calculation by hand."""
    found = derive(
        [
            event("up", 0.0),
            event("asleep", 3600.0, took_s=2.0, released_bytes=40_000),
            event("awake", 7200.0, took_s=35.0, held=3),
            event("asleep", 10800.0, released_bytes=38_000),
            event("awake", 18000.0, took_s=45.0, held=1),
            event("asleep", 20000.0),
            event("down", 21600.0),
        ],
        STOP, 2, {}, WHEN,
    )  # fmt: skip
    assert found.observed_s == 21600
    assert found.asleep_s == 3600 + 7200 + 1600
    assert found.asleep_share == pytest.approx(12400 / 21600)
    assert found.released_accelerator_hours == pytest.approx(2 * 12400 / 3600)
    assert [(wake.asleep_s, wake.penalty_s, wake.held_requests) for wake in found.wakes] == [(3600, 35, 3), (7200, 45, 1)]
    assert found.wake_penalty_s.value == 40
    assert found.wake_penalty_s.low == 0, "t-interval of two: 40 +- 63.5, never below zero"
    assert found.wake_penalty_s.high == pytest.approx(40 + 12.7062 * math.sqrt(50) / math.sqrt(2))
    assert found.held_requests == 4
    assert found.released_bytes == 38_000
    assert found.gpu_is_free
    assert not derive([event("up", 0.0), event("down", 1.0)], IdleSpec(policy="sleep-1"), 1, {}, WHEN).gpu_is_free


@given(st.lists(st.tuples(st.floats(0.1, 1e5), st.floats(0.1, 1e5)), max_size=20))
@settings(deadline=None, max_examples=50)
def test_rest_is_never_longer_than_the_time_observed(spans: list[tuple[float, float]]) -> None:
    """Whatever the events are, the saving never exceeds the time that the server was observed."""
    at, events = 0.0, [event("up", 0.0)]
    for awake_s, asleep_s in spans:
        at += awake_s
        events.append(event("asleep", at))
        at += asleep_s
        events.append(event("awake", at, took_s=1.0))
    events.append(event("down", at + 1))
    found = derive(events, STOP, 1, {}, WHEN)
    assert 0 <= found.asleep_share <= 1
    assert found.asleep_s == pytest.approx(sum(asleep_s for _, asleep_s in spans))
    assert len(found.wakes) == len(spans)


def test_a_mean_of_one_has_no_interval() -> None:
    """One wake gives a penalty without a confidence interval, rather than an invented one."""
    assert mean_interval([]) is None
    assert mean_interval([3.0]).low is None


def test_the_record_is_derived_again_from_what_a_killed_supervisor_left(tmp_path: Path) -> None:
    """Raw events decide: a torn last line is skipped, and equal events give an equal record."""
    run = RunDir(tmp_path)
    events = [event("up", 0.0), event("asleep", 10.0), event("awake", 30.0, took_s=5.0, held=2)]
    text = "".join(json.dumps(asdict(each)) + "\n" for each in events)
    (tmp_path / "idle.jsonl").write_text(text + '{"kind": "asl')
    assert read_events(tmp_path) == events, "a torn last line is left out"
    assert write_record(run, STOP, 1).asleep_s == 20
    assert write_record(run, STOP, 1) == IdleRecord.read(tmp_path), "the same events give the same record"
    with (tmp_path / "idle.jsonl").open("a") as stream:
        stream.write("\n" + json.dumps(asdict(event("down", 40.0))) + "\n")
    assert write_record(run, STOP, 1).observed_s == 40
    assert (tmp_path / "superseded/1/idle.json").exists()
    assert write_record(RunDir(tmp_path / "none"), STOP, 1) is None


class Gate:
    """A front that is always quiet."""

    def __init__(self) -> None:
        self.wanted, self.opened = threading.Event(), 0

    def close_when_idle(self, _: float) -> bool:
        """Close at once."""
        return True

    def open(self) -> tuple[int, float]:
        """Open, and say that one request waited for half a second."""
        self.opened += 1
        self.wanted.clear()
        return 1, 0.5


class Sleeper:
    """An engine that fails as told."""

    def __init__(self, rest_fails: int = 0, wake_fails: int = 0, error: Exception | None = None) -> None:
        self.rest_fails, self.wake_fails, self.wakes, self.error = rest_fails, wake_fails, 0, error

    def rest(self) -> None:
        """Fall asleep, or fail as often as told."""
        if self.rest_fails:
            self.rest_fails -= 1
            raise self.error or OSError("no")

    def wake(self) -> bool:
        """Wake up, or fail as often as told."""
        self.wakes += 1
        if self.error and self.wakes <= self.wake_fails:
            raise self.error
        return self.wakes > self.wake_fails

    def used_bytes(self) -> None:
        """Report that memory cannot be read."""


def until(condition: Callable[[], object]) -> None:
    """Wait for the condition, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_engine_that_will_not_sleep_stays_open_and_is_asked_again(tmp_path: Path) -> None:
    """When sleeping fails, held requests are let through and the next idle moment tries again."""
    gate = Gate()
    policy = IdlePolicy(gate, Sleeper(rest_fails=1), STOP, tmp_path)
    policy.start()
    until(lambda: "asleep" in [each.kind for each in read_events(tmp_path)])
    assert gate.opened == 1, "those who came meanwhile were let in"
    policy.close()


def test_whatever_goes_wrong_the_gate_does_not_stay_closed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even an error that nobody thought of, on a disk that takes no record."""
    gate, engine = Gate(), Sleeper(rest_fails=1, wake_fails=2, error=ZeroDivisionError("never thought of"))
    policy = IdlePolicy(gate, engine, STOP, tmp_path / "no such folder")
    policy.start()
    until(lambda: policy.closed)
    gate.wanted.set()
    until(lambda: gate.opened >= 1)
    assert policy.is_alive()
    policy.close()
    assert "never thought of" in capsys.readouterr().err


def test_a_wake_that_fails_is_tried_again(tmp_path: Path) -> None:
    """The gate opens and the wake is recorded only once the engine is awake."""
    gate, engine = Gate(), Sleeper(wake_fails=1)
    policy = IdlePolicy(gate, engine, STOP, tmp_path)
    policy.start()
    until(lambda: policy.resting)
    gate.wanted.set()
    until(lambda: gate.opened == 1)
    policy.close()
    assert engine.wakes == 2
    assert [each.kind for each in read_events(tmp_path)][:3] == ["up", "asleep", "awake"]
    assert policy.wakes == 1


def test_a_replica_that_is_gone_is_not_asked_and_holds_up_none_of_the_others() -> None:
    """Sleep and wake go only to the replicas that are there."""
    seen: list[tuple[int, str]] = []
    with sleepers(seen) as urls:
        there = [urls[1]]
        engine = SleepMode(lambda: there, 1, lambda: None)
        engine.rest()
        assert engine.wake()
        there.clear()
        assert not engine.wake(), "nobody is there"
    assert seen == [(1, "/sleep?level=1"), (1, "/wake_up")]


def test_what_a_killed_supervisor_left_is_derived_by_its_own_order(tmp_path: Path) -> None:
    """The record uses the settings of the run that was killed, and is derived only once."""
    run = RunDir(tmp_path)
    lines = [event("up", 0.0), event("asleep", 10.0), event("awake", 30.0, took_s=5.0, held=2)]
    (tmp_path / "idle.jsonl").write_text("".join(json.dumps(asdict(each)) + "\n" for each in lines))
    settle(run)
    assert not IdleRecord.exists(tmp_path), "there is nothing that says what it was"
    spec = experiment(operations={"idle": {"policy": "stop", "after_s": 7}})
    (tmp_path / "serving.experiment.json").write_bytes(spec.to_json())
    server_record("http://127.0.0.1:1", "/m", accelerators_used=3).write(tmp_path)
    settle(run)
    found = IdleRecord.read(tmp_path)
    assert (found.policy, found.after_s, found.accelerators, found.asleep_s) == ("stop", 7, 3, 20)
    settle(run)
    assert not (tmp_path / "superseded").exists(), "once is enough"
    (tmp_path / "serving.experiment.json").write_text("{}")
    settle(run)


@contextlib.contextmanager
def sleepers(seen: list[tuple[int, str]], *refusing: int) -> Iterator[list[str]]:
    """Engines that note what they are asked; those in `refusing` (numbers) do not go to sleep."""

    def handler(number: int) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Keep quiet."""

            def do_POST(self) -> None:
                """Note the path, and refuse to sleep where told."""
                self.rfile.read(int(self.headers["Content-Length"]))
                seen.append((number, self.path))
                self.send_response(500 if number in refusing and "sleep" in self.path else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        return Handler

    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler(number)) for number in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"http://127.0.0.1:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


def test_when_the_second_of_two_replicas_will_not_sleep_the_first_is_woken_before_the_gate_opens(tmp_path: Path) -> None:
    """Otherwise requests would reach a replica that is asleep."""
    seen = []

    class Door(Gate):
        def open(self) -> tuple[int, float]:
            """Note the moment."""
            seen.append("open")
            return super().open()

    with sleepers(seen, 1) as urls:
        policy = IdlePolicy(Door(), SleepMode(lambda: urls, 1, lambda: None), STOP, tmp_path)
        policy.start()
        until(lambda: "open" in seen)
        policy.close()
    first_open = seen[: seen.index("open") + 1]
    assert first_open == [(0, "/sleep?level=1"), (1, "/sleep?level=1"), (0, "/wake_up"), (1, "/wake_up"), "open"]


@pytest.mark.parametrize(
    ("level", "asked"),
    [
        (1, ["/sleep?level=1", "/wake_up"]),
        (2, ["/sleep?level=2", "/wake_up?tags=weights", "/collective_rpc", "/wake_up?tags=kv_cache"]),
    ],
)
def test_sleep_mode_asks_in_the_order_that_vllm_needs(level: int, asked: list[str]) -> None:
    """Level 2 drops the weights, so they are reloaded before the KV cache is allocated again."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Keep quiet."""

        def do_POST(self) -> None:
            """Note path and body."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, json.loads(body)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        engine = SleepMode(lambda: [f"http://127.0.0.1:{server.server_port}"], level, lambda: None)
        engine.rest()
        assert engine.wake()
        server.shutdown()
    assert [path for path, _ in seen] == asked
    if level == 2:
        assert seen[2][1] == {"method": "reload_weights"}
    assert not engine.wake(), "nobody answers any more"
