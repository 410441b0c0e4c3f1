"""The supervisor that `serving up` leaves behind: keeps engines, router and front up, and writes the live state.

Run with: python -m tokenhour.serving.supervisor.daemon EXPERIMENT.json SCHEME RESULTS ROOT
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import TokenhourError, exit_code_of
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.standalone.idle import IDLE_EVENTS_FILE, IdleRecord
from tokenhour.machine.run_folder import now_utc
from tokenhour.serving.engine.engine_metrics import Activity
from tokenhour.serving.engine.verify_weights import Verification
from tokenhour.serving.preflight import Prepared, exclusive, old_logs, prepare
from tokenhour.serving.proxy import idle_policy
from tokenhour.serving.state import ServerState, State
from tokenhour.serving.supervisor.start_sequence import LOOK_S, ServerProcesses
from tokenhour.serving.supervisor.stop_start import StopAndStart, used_memory

_HEARTBEAT_S = 5.0


class Supervisor:
    """One server that stays up until it is told to stop or cannot be kept up."""

    def __init__(self, prepared: Prepared, weights: Verification) -> None:
        self.prepared, self.run = prepared, prepared.run
        self.server = ServerProcesses(prepared, weights, prepared.experiment.operations)
        self.policy: idle_policy.IdlePolicy | None = None
        self.activity = Activity(prepared.launches, prepared.experiment.serving.max_num_seqs)
        self._asked = 0
        self._state: State = "starting"
        self._since = now_utc()
        self._error = ""
        self._written: ServerState | None = None
        self._written_at = 0.0
        self._starts = 0

    # --- the life of a server -----------------------------------------------------------------------------------------

    def live(self) -> None:
        """Start everything, stay until told to stop, drain, stop.

        Raises RunFailedError when it cannot be kept up, InputError when the weights are not their manifest's.
        """
        self.publish()
        try:
            self.server.start(self._given_up)
            with contextlib.ExitStack() as stack:
                if not self.stopping:
                    self._open(stack)
                while not self.stopping:
                    self._look()
                    time.sleep(LOOK_S)
                self._drain()
        except Exception as error:
            self._error = str(error) if isinstance(error, TokenhourError) else f"{type(error).__name__}: {error}"
            raise
        finally:
            self._stop()

    def told(self) -> None:
        """Somebody asks for the end: once drains, once more stops at once.

        Called by a signal handler: it takes no lock, since the thread that it interrupts may hold it.
        """
        self._asked += 1

    @property
    def stopping(self) -> bool:
        """Whether somebody has asked for the end."""
        return self._asked > 0

    @property
    def hurried(self) -> bool:
        """Whether somebody has asked for the end at once."""
        return self._asked > 1

    def _given_up(self) -> bool:
        self.publish()
        return self.stopping

    def _open(self, stack: contextlib.ExitStack) -> None:
        prepared, replicas = self.prepared, self.server.replicas
        self._record()
        self.server.open_front(stack)
        stack.callback(self._refuse_requests)
        spec = prepared.experiment.operations.idle
        if spec.policy != "none" and self.server.front is not None:
            self.run.supersede(IDLE_EVENTS_FILE, IdleRecord.file_name)
            used = used_memory(replicas)
            how: idle_policy.Rest = (
                StopAndStart(replicas, prepared.router, prepared.experiment.serving.ready_timeout_s, used)
                if spec.policy == "stop"
                else idle_policy.SleepMode(self._there, int(spec.policy[-1]), used)
            )
            self.policy = idle_policy.IdlePolicy(self.server.front, how, spec, self.run.path)
            self.policy.start()
        self.run.note("serving", "ready", prepared.base_url)
        self._become("ready")
        self.publish()

    def _look(self) -> None:
        self.server.refuse_failed(resting=self._closed())
        closed = self._closed()
        if not closed:
            self.activity.look()
            self._record()
        whole = all(keeper.state == "ready" for keeper in self.server.keepers)
        # On the way to its rest or back it is no less whole than asleep, whichever of both was looked at first.
        moving = (closed or self._closed()) and not whole
        asleep = moving or (self.policy is not None and self.policy.resting)
        self._become("asleep" if asleep else "ready" if whole else "degraded")
        self.publish()

    def _closed(self) -> bool:
        """Whether the idle policy has closed the front's gate."""
        return self.policy is not None and self.policy.closed

    def _refuse_requests(self) -> None:
        """However the end came: who is held is told so, and nobody else is let in."""
        if self.policy is not None:
            self.policy.end()
        if self.server.front is not None:
            self.server.front.refuse()

    def _there(self) -> list[str]:
        """Name the engines that are ready now (asleep or not)."""
        return [keeper.launch.base_url for keeper in self.server.replicas if keeper.state == "ready"]

    def _record(self) -> None:
        """Write server.json when the engines of a session became ready, and again after a restart (not after a wake)."""
        starts = sum(keeper.starts for keeper in self.server.replicas) if self.policy is None else min(1, self._starts + 1)
        if starts == self._starts or (found := self.server.record()) is None:
            return
        self._starts = starts
        self.run.supersede(Server.file_name)
        found.write(self.run.path)

    def _drain(self) -> None:
        self._become("draining")
        self.publish()
        if (front := self.server.front) is None:
            return
        self._refuse_requests()
        until = time.monotonic() + self.server.drain_s
        while front.in_flight() and time.monotonic() < until and not self.hurried:
            time.sleep(LOOK_S)

    def _stop(self) -> None:
        # What a front stands before has been drained by it: whatever still runs has had its time.
        self.server.stop(drain=not self._error and self.server.front is None, at_once=lambda: self.hurried)
        if self.policy is not None:
            # After the engines: a wake under way ends with them, however long it would have taken.
            self.policy.close()
            with contextlib.suppress(OSError, TokenhourError):
                idle_policy.write_record(self.run, self.prepared.experiment.operations.idle, self.prepared.accelerators)
        self._become("failed" if self._error else "stopped")
        self.publish()
        self.run.note("serving", "failed" if self._error else "done", self._error[:300])

    # --- what others see ----------------------------------------------------------------------------------------------

    def _become(self, state: State) -> None:
        if state != self._state:
            self._state, self._since = state, now_utc()

    def publish(self) -> None:
        """Write the state when it changed, and now and then as a heartbeat."""
        found = self.state()
        if found == self._written and time.monotonic() - self._written_at < _HEARTBEAT_S:
            return
        found.write(self.run.path)
        self._written, self._written_at = found, time.monotonic()

    def state(self) -> ServerState:
        """Describe the server now."""
        return self.server.state(
            "up",
            self._state,
            self._since,
            last_request_utc=self.activity.last_request_utc,
            idle_policy=self.prepared.experiment.operations.idle.policy,
            wakes=self.policy.wakes if self.policy else 0,
            asleep_s=round(self.policy.asleep_s, 1) if self.policy else 0.0,
            error=self._error,
            load=self.activity.load(),
        )


def main(arguments: list[str]) -> None:
    """Prepare again (the caller has shown any mistake already), and live."""
    experiment, scheme = Experiment.read(Path(arguments[0])), arguments[1]
    prepared = prepare(experiment, scheme, Path(arguments[2]), Path(arguments[3]), verify=False, kept_up=True)
    weights = Verification(prepared.checkpoint)
    with exclusive(prepared.run), weights.beside():
        prepared.run.supersede(Server.file_name, *old_logs(prepared.run))
        prepared.run.note("serving", "started")
        supervisor = Supervisor(prepared, weights)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: supervisor.told())
        supervisor.live()


if __name__ == "__main__":
    sys.exit(exit_code_of(lambda: main(sys.argv[1:])))
