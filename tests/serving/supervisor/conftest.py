"""Keepers of engines that do as planned."""

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
from tokenhour.serving.supervisor import replica
from tokenhour.serving.supervisor.replica import Keeper


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
