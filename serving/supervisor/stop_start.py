"""Rest by stopping: the engine ends, everything that it held is free, and a wake is a cold start."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

from tokenhour.contracts.errors import RunFailedError
from tokenhour.machine.hardware import accelerator
from tokenhour.machine.nvml import memory, session
from tokenhour.serving.engine.readiness import ask
from tokenhour.serving.launch.argv import Launch
from tokenhour.serving.supervisor.replica import Keeper

_STOP_S = 60.0
_ROUTER_S = 15.0


class StopAndStart:
    """Stops every engine and starts it again; the way for builds without a sleep mode."""

    def __init__(
        self, keepers: Sequence[Keeper], router: Launch | None, ready_timeout_s: float, used: Callable[[], int | None]
    ) -> None:
        self._keepers, self._router, self._ready_timeout_s = tuple(keepers), router, ready_timeout_s
        self.used_bytes = used

    def rest(self) -> None:
        """Stop every engine; the gate is closed, so nothing is cut off."""
        for keeper in self._keepers:
            keeper.want(up=False)
        for keeper in self._keepers:
            keeper.wait_for("stopped", "failed", timeout_s=_STOP_S)

    def wake(self) -> bool:
        """Start every engine and wait until each has answered or cannot be started; one that answers is a server."""
        for keeper in self._keepers:
            keeper.want(up=True)
        for keeper in self._keepers:
            keeper.wait_for("ready", "failed", "stopped", timeout_s=self._ready_timeout_s)
        return self._any_ready() and self._router_agrees()

    def _any_ready(self) -> bool:
        return any(keeper.state == "ready" for keeper in self._keepers)

    def _router_agrees(self) -> bool:
        """Wait until the router has seen that its replicas are back."""
        until = time.monotonic() + _ROUTER_S
        while self._router is not None:
            try:
                ask(self._router, _ROUTER_S)
            except RunFailedError:
                if time.monotonic() > until or not self._any_ready():
                    return False
                time.sleep(0.1)
            else:
                return True
        return True


def used_memory(keepers: Sequence[Keeper]) -> Callable[[], int | None]:
    """Return a gauge of what the engines hold: GPU memory where there are GPUs, resident memory of their trees elsewhere."""
    if accelerator().kind == "cuda":
        return _gpu_memory
    return lambda: sum(_tree_bytes(keeper.engine.guard.pid) for keeper in keepers if keeper.engine is not None)


def _gpu_memory() -> int | None:
    with session() as nvml:
        if nvml is None:
            return None
        try:
            count = nvml.nvmlDeviceGetCount()
            return sum(int(memory(nvml, nvml.nvmlDeviceGetHandleByIndex(index)).used) for index in range(count))
        except nvml.NVMLError:
            return None


def _tree_bytes(pid: int) -> int:
    import psutil

    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for each in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += each.memory_info().rss
    return total
