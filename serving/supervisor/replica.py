"""One process kept up: started, waited for, watched, started again with back-off when it crashed, stopped when asked."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Literal

from tokenhour.contracts.config.operations import OperationsSpec
from tokenhour.contracts.errors import RunFailedError, TokenhourError
from tokenhour.contracts.records.server import ColdStart
from tokenhour.serving.engine.guardian import GRACE_S
from tokenhour.serving.engine.process import Engine, engine
from tokenhour.serving.engine.readiness import wait_ready
from tokenhour.serving.launch.argv import Launch

_WATCH_S = 0.2
KeeperState = Literal["starting", "ready", "backoff", "stopped", "failed"]


class Keeper(threading.Thread):
    """Keeps one engine (or router) in the state that is wanted."""

    def __init__(
        self, launch: Launch, log: Path, operations: OperationsSpec, ready_timeout_s: float, *, name: str = "vLLM"
    ) -> None:
        super().__init__(name=f"keeper of {name}", daemon=True)
        self.launch, self.log, self.what = launch, log, name
        self.state: KeeperState = "starting"
        self.phase = "starting Python"
        self.restarts = 0
        self.starts = 0
        """How often it became ready."""
        self.error = ""
        self._exception: Exception | None = None
        self.engine: Engine | None = None
        self.cold_start: ColdStart | None = None
        self.greeting = ""
        self._operations, self._ready_timeout_s = operations, ready_timeout_s
        self._wanted = True
        self._waking = False
        self._closing = False
        self._drain = False
        self._change = threading.Condition()

    # --- asked for by others ------------------------------------------------------------------------------------------

    def want(self, up: bool) -> None:
        """Ask for the engine to run, or to stop and release everything.

        An engine that was asked for and could not be started is `stopped` again, and can be asked for again.
        """
        with self._change:
            if self._closing:
                return
            self._wanted, self._waking = up, up and self.state != "ready"
            # At once, so that whoever asks and then waits does not take the rest before for the end of this start.
            self._set("starting" if up and self.state == "stopped" else self.state)

    def close(self, *, drain: bool) -> None:
        """Stop for good; with `drain` running requests may end first. Returns at once: join() waits."""
        with self._change:
            self._wanted, self._closing, self._drain = False, True, drain
            self._change.notify_all()

    def kill(self) -> None:
        """Stop for good and at once, whatever still runs."""
        self.close(drain=False)
        running = self.engine
        if running is not None:
            running.kill()

    def wait_for(self, *states: KeeperState, timeout_s: float) -> bool:
        """Wait until it is in one of `states`; False when the time is over."""
        with self._change:
            return self._change.wait_for(lambda: self.state in states, timeout_s)

    def failure(self) -> RunFailedError:
        """Return why it ended, as an exception to raise."""
        return self._exception if isinstance(self._exception, RunFailedError) else RunFailedError(self.error)

    def update(self, text: str) -> None:
        """Take the phase of a start (what a Status shows)."""
        self.phase = text

    # --- the thread ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Live through starts, crashes and stops until closed, or failed for good."""
        while self._wait_until_wanted():
            try:
                self._live()
            except Exception as error:  # noqa: BLE001 (a keeper that is gone without a word would be waited for for ever)
                self._exception = error
                self.error = str(error) if isinstance(error, TokenhourError) else f"{type(error).__name__}: {error}"
                if self._unwanted():
                    continue
                if self._may_restart():
                    self._back_off()
                elif self._waking:
                    self._rest_again()
                else:
                    self._become("failed")
                    return

    def _wait_until_wanted(self) -> bool:
        with self._change:
            while not self._wanted and not self._closing:
                self._set("stopped")
                self._change.wait()
        if self._closing:
            self._become("stopped")
        return not self._closing

    def _live(self) -> None:
        self._become("starting")
        drain_s = float(self._operations.drain_s)
        with engine(self.launch, self.log, kept=self._operations.log, drain_s=drain_s, name=self.what) as running:
            self.engine = running
            try:
                self.cold_start, self.greeting = wait_ready(running, self._ready_timeout_s, self, self._unwanted)
                self.starts += 1
                self._waking = False
                self._become("ready")
                self._watch(running)
                if self._drain:
                    running.drain()
                    _wait_ended(running, drain_s + GRACE_S)
            finally:
                self.engine = None
        self._become("stopped")

    def _watch(self, running: Engine) -> None:
        since = time.monotonic()
        while not self._unwanted():
            running.check()
            if self.restarts and time.monotonic() - since > self._operations.restart.reset_after_s:
                self.restarts = 0
            with self._change:
                self._change.wait(_WATCH_S)

    def _may_restart(self) -> bool:
        """An engine that never became ready has something that a restart does not cure."""
        return self.starts > 0 and self.restarts < self._operations.restart.max_restarts

    def _rest_again(self) -> None:
        """A wake that did not succeed leaves the engine as it was: whoever woke it decides what comes next."""
        with self._change:
            self._wanted = self._waking = False
            self.restarts = 0
            self._set("stopped")

    def _back_off(self) -> None:
        spec = self._operations.restart
        pause_s = min(spec.max_backoff_s, spec.backoff_s * 2**self.restarts)
        self.restarts += 1
        self._become("backoff")
        with self._change:
            self._change.wait_for(self._unwanted, pause_s)

    def _unwanted(self) -> bool:
        return self._closing or not self._wanted

    def _become(self, state: KeeperState) -> None:
        with self._change:
            self._set(state)

    def _set(self, state: KeeperState) -> None:
        self.state = state
        self._change.notify_all()


def _wait_ended(running: Engine, limit_s: float) -> None:
    until = time.monotonic() + limit_s
    while not running.ended() and time.monotonic() < until:
        time.sleep(_WATCH_S / 4)
