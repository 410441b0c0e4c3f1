"""Replicas are waited for together, and none hides another's failure."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from tokenhour.contracts.errors import RunFailedError
from tokenhour.serving.supervisor.start_sequence import ServerProcesses

pytestmark = pytest.mark.system


def test_the_replica_that_cannot_start_is_told_while_another_still_loads(keep: Any) -> None:
    """The server waits for its replicas not in their order: the first may load for minutes."""
    slow, slow_engines = keep()
    dead, dead_engines = keep()
    slow_engines.plan, dead_engines.plan = ["slow"], [RunFailedError("out of memory")]
    server = ServerProcesses.__new__(ServerProcesses)
    server.replicas, server.router, server.drain_s = [slow, dead], None, 0
    weights: Any = SimpleNamespace(check=lambda: None, done=lambda: True)
    server.weights = weights
    began = time.monotonic()
    with pytest.raises(RunFailedError, match="out of memory"):
        server.start(lambda: False)
    assert slow.state == "starting"
    server.stop(drain=False, at_once=lambda: False)
    assert time.monotonic() - began < 10
    assert not slow.is_alive()
