"""Engines that are stopped to rest, and what a wake may come to."""

import threading
from collections.abc import Callable

import pytest

from tests.serving.supervisor.conftest import Kept
from tokenhour.contracts.errors import RunFailedError
from tokenhour.serving.supervisor.stop_start import StopAndStart

pytestmark = pytest.mark.system


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
