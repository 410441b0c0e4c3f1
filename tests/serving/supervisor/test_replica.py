"""Keeping an engine up, with engines that do as told: who ends it, who may try again, and what a wake may come to."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tokenhour.contracts.config.operations import OperationsSpec
from tokenhour.contracts.errors import RunFailedError
from tokenhour.contracts.records.server import ColdStart
from tokenhour.serving.launch.argv import Launch
from tokenhour.serving.state import ServerState, read_state
from tokenhour.serving.supervisor import fleet, replica
from tokenhour.serving.supervisor.replica import Keeper
from tokenhour.serving.supervisor.stop_start import StopAndStart

pytestmark = pytest.mark.system


class Engines:
    """What one keeper starts: a start does what the next of `plan` says, else it is good."""

    def __init__(self) -> None:
        self.plan: list[Any] = []
        self.dead = threading.Event()

    @contextlib.contextmanager
    def start(self) -> Iterator[SimpleNamespace]:
        """Start an engine that is alive until `dead` is set."""
        self.dead.clear()
        yield SimpleNamespace(engines=self, check=self.check, ended=lambda: True, drain=lambda: None, kill=lambda: None)

    def check(self) -> None:
        """Raise when the engine has crashed."""
        if self.dead.is_set():
            raise RunFailedError("it crashed")

    def become_ready(self, cancelled: Callable[[], bool]) -> tuple[ColdStart, str]:
        """Become ready, fail or hang, as the next entry of the plan says."""
        error = self.plan.pop(0) if self.plan else None
        if error == "slow":
            while not cancelled():
                time.sleep(0.01)
            error = RunFailedError("cancelled")
        if error is not None:
            raise error
        return ColdStart(weights_s=None, health_s=1, ready_s=1), "Paris."


# The keeper is Any: its state changes in a thread of its own.
Kept = tuple[Any, Engines]


@pytest.fixture
def keep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Kept]]:
    """Make keepers of engines that do as planned."""
    made: dict[str, Kept] = {}

    def make(**operations: Any) -> Kept:
        launch = Launch((), {}, f"http://127.0.0.1:{len(made) + 1}", "toy")
        kept = Keeper(launch, tmp_path / "log", OperationsSpec.model_validate(operations), 5.0)
        made[launch.base_url] = kept, Engines()
        return made[launch.base_url]

    monkeypatch.setattr(replica, "engine", lambda launch, *_, **__: made[launch.base_url][1].start())
    monkeypatch.setattr(replica, "wait_ready", lambda running, _, __, cancelled: running.engines.become_ready(cancelled))
    yield make
    for kept, _ in made.values():
        kept.close(drain=False)
        kept.join(10)
        assert not kept.is_alive()


def test_an_error_that_nobody_thought_of_is_a_failed_engine_with_its_message(
    keep: Callable[..., Kept],
) -> None:
    """A thread that is gone in the state `starting` would be waited for for ever."""
    kept, engines = keep()
    engines.plan = [KeyError("choices")]
    kept.start()
    assert kept.wait_for("failed", timeout_s=5)
    assert kept.error == "KeyError: 'choices'"


def test_a_state_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    """A full disk must not take down a server that works."""
    state = ServerState("toy", "ready", 1, 1, "http://127.0.0.1:1", "toy", "up", "", "")
    state.write(tmp_path / "no such folder")
    state.write(tmp_path)
    assert read_state(tmp_path).run == "toy"


def test_a_wake_that_fails_leaves_the_engine_stopped_and_it_can_be_woken_again(
    keep: Callable[..., Kept],
) -> None:
    """A failed wake keeps its error and the keeper alive, so the next request can try again."""
    kept, engines = keep()
    kept.start()
    assert kept.wait_for("ready", timeout_s=5)
    how = StopAndStart([kept], None, 5.0, lambda: None)
    how.rest()
    assert kept.state == "stopped"
    engines.plan = [RunFailedError("out of memory")]
    assert not how.wake()
    assert (kept.state, kept.error, kept.is_alive()) == ("stopped", "out of memory", True)
    assert how.wake()
    assert kept.state == "ready"
    engines.dead.set()
    assert kept.wait_for("failed", timeout_s=5), "a crash afterwards is one"


def test_a_wake_has_the_restarts_that_the_experiment_gives(keep: Callable[..., Kept]) -> None:
    """Waking uses the same restart budget as a crash, and each wake begins with a full one."""
    kept, engines = keep(restart={"max_restarts": 1, "backoff_s": 0.01})
    kept.start()
    assert kept.wait_for("ready", timeout_s=5)
    how = StopAndStart([kept], None, 5.0, lambda: None)
    how.rest()
    engines.plan = [RunFailedError("out of memory")]
    assert how.wake()
    how.rest()
    engines.plan = [RunFailedError("out of memory"), RunFailedError("out of memory")]
    assert not how.wake()
    assert how.wake()


def test_a_fleet_wakes_without_the_replica_that_failed_for_good(keep: Callable[..., Kept]) -> None:
    """A dead replica does not keep the rest from waking; only an empty fleet fails to wake."""
    (first, broken), (second, engines) = keep(), keep()
    for each in (first, second):
        each.start()
        assert each.wait_for("ready", timeout_s=5)
    broken.dead.set()
    assert first.wait_for("failed", timeout_s=5)
    how = StopAndStart([first, second], None, 5.0, lambda: None)
    how.rest()
    assert how.wake()
    assert (first.state, second.state) == ("failed", "ready")
    how.rest()
    engines.plan = [RunFailedError("out of memory")]
    assert not how.wake(), "nobody is left"


def test_an_engine_that_is_closed_in_mid_wake_ends_the_wake(keep: Callable[..., Kept]) -> None:
    """Stopping a server interrupts its wake at once and rules out any later one."""
    kept, engines = keep()
    kept.start()
    assert kept.wait_for("ready", timeout_s=5)
    how = StopAndStart([kept], None, 600.0, lambda: None)
    how.rest()
    engines.plan = ["slow"]
    woke = []
    waking = threading.Thread(target=lambda: woke.append(how.wake()))
    waking.start()
    assert kept.wait_for("starting", timeout_s=5)
    kept.close(drain=True)
    waking.join(5)
    assert woke == [False]
    assert not how.wake(), "and nobody can ask for another"


def test_the_replica_that_cannot_start_is_told_while_another_still_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in their order: the first may load for minutes."""

    def wait_ready(engine: str, _: object, __: object, cancelled: Callable[[], bool]) -> None:
        if engine == "dead":
            raise RunFailedError("out of memory")
        until = time.monotonic() + 20
        while not cancelled() and time.monotonic() < until:
            time.sleep(0.01)
        raise RunFailedError("cancelled")

    monkeypatch.setattr(fleet, "wait_ready", wait_ready)
    engines: list[Any] = ["slow", "dead"]
    began = time.monotonic()
    with pytest.raises(RunFailedError, match="out of memory"):
        fleet._all_ready(engines, 60, None, SimpleNamespace(check=lambda: None))
    assert time.monotonic() - began < 10
