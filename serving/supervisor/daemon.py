"""The supervisor that `serving up` leaves behind: keeps engines, router and front up, and writes the live state.

Run with: python -m tokenhour.serving.supervisor.daemon EXPERIMENT.json SCHEME RESULTS ROOT
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import RunFailedError, TokenhourError, exit_code_of
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.standalone.idle import IDLE_EVENTS_FILE, IdleRecord
from tokenhour.machine.run_folder import now_utc
from tokenhour.serving.engine.engine_metrics import Activity
from tokenhour.serving.engine.guardian import GRACE_S
from tokenhour.serving.engine.verify_weights import Verification
from tokenhour.serving.preflight import Prepared, exclusive, old_logs, prepare
from tokenhour.serving.proxy import idle_policy
from tokenhour.serving.proxy.server import Front, front
from tokenhour.serving.state import ReplicaState, ServerState, State, start_of
from tokenhour.serving.supervisor.fleet import server_record
from tokenhour.serving.supervisor.replica import Keeper
from tokenhour.serving.supervisor.stop_start import StopAndStart, used_memory

_LOOK_S = 0.1
_HEARTBEAT_S = 5.0
_ROUTER_READY_S = 60.0


class Supervisor:
    """One server that stays up until it is told to stop or cannot be kept up."""

    def __init__(self, prepared: Prepared, weights: Verification) -> None:
        self.prepared, self.weights = prepared, weights
        self.run = prepared.run
        operations, timeout_s = prepared.experiment.operations, prepared.experiment.serving.ready_timeout_s
        self.replicas = [
            Keeper(launch, prepared.log_of(index), operations, timeout_s) for index, launch in enumerate(prepared.launches)
        ]
        self.router = (
            Keeper(prepared.router, prepared.router_log, operations, _ROUTER_READY_S, name="the router")
            if prepared.router is not None
            else None
        )
        self.front: Front | None = None
        self.policy: idle_policy.IdlePolicy | None = None
        self.activity = Activity(prepared.launches, prepared.experiment.serving.max_num_seqs)
        self._asked = 0
        self._state: State = "starting"
        self._since, self._began = now_utc(), now_utc()
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
        for keeper in self.replicas:
            keeper.start()
        try:
            self._start()
            with contextlib.ExitStack() as stack:
                if not self.stopping:
                    self._open(stack)
                while not self.stopping:
                    self._look()
                    time.sleep(_LOOK_S)
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

    def _start(self) -> None:
        """Wait for the engines and for the hashes of their weights, then for the router."""
        try:
            self._until(lambda: all(keeper.state == "ready" for keeper in self.replicas))
        except RunFailedError:
            # Weights that are not the manifest's are why, before anything that the engine says of them.
            self._until(self.weights.done, whatever=True)
            self.weights.check()
            raise
        self._until(self.weights.done)
        self.weights.check()
        if self.router is not None and not self.stopping:
            self.router.start()
            self._until(lambda: self.router is not None and self.router.state == "ready")

    def _until(self, condition: Callable[[], bool], *, whatever: bool = False) -> None:
        """Wait for `condition` as long as nobody asks for the end; with `whatever`, of engines that failed too."""
        while not condition() and not self.stopping:
            self.weights.check()
            if not whatever:
                self._refuse_failed()
            self.publish()
            time.sleep(_LOOK_S)

    def _open(self, stack: contextlib.ExitStack) -> None:
        prepared = self.prepared
        self._record()
        if prepared.front is not None:
            self.front = stack.enter_context(front(prepared.front))
            stack.callback(self._refuse_requests)
        spec = prepared.experiment.operations.idle
        if spec.policy != "none" and self.front is not None:
            self.run.supersede(IDLE_EVENTS_FILE, IdleRecord.file_name)
            used = used_memory(self.replicas)
            how: idle_policy.Rest = (
                StopAndStart(self.replicas, prepared.router, prepared.experiment.serving.ready_timeout_s, used)
                if spec.policy == "stop"
                else idle_policy.SleepMode(self._there, int(spec.policy[-1]), used)
            )
            self.policy = idle_policy.IdlePolicy(self.front, how, spec, self.run.path)
            self.policy.start()
        self.run.note("serving", "ready", prepared.base_url)
        self._become("ready")
        self.publish()

    def _look(self) -> None:
        self._refuse_failed()
        closed = self._closed()
        if not closed:
            self.activity.look()
            self._record()
        keepers = [*self.replicas, *([self.router] if self.router is not None else [])]
        whole = all(keeper.state == "ready" for keeper in keepers)
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
        if self.front is not None:
            self.front.refuse()

    def _there(self) -> list[str]:
        """Name the engines that are ready now (asleep or not)."""
        return [keeper.launch.base_url for keeper in self.replicas if keeper.state == "ready"]

    def _refuse_failed(self) -> None:
        """A fleet lives as long as one replica does; a router that is gone for good ends it."""
        states = [keeper.state for keeper in self.replicas]
        # Stopped while the gate is open: it could not be woken with the others, and nobody will ask for it now.
        gone = {"failed"} if self._closed() else {"failed", "stopped"}
        failed = [keeper for keeper, state in zip(self.replicas, states, strict=True) if state in gone]
        never = [keeper for keeper in failed if keeper.starts == 0]
        if self.router is not None and self.router.state == "failed":
            failed, never = [self.router], [self.router]
        if failed and (never or len(failed) == len(self.replicas)):
            raise RunFailedError(failed[0].error)

    def _record(self) -> None:
        """Write server.json when the engines of a session became ready, and again after a restart (not after a wake)."""
        keepers = self.replicas
        starts = sum(keeper.starts for keeper in keepers) if self.policy is None else min(1, self._starts + 1)
        engines = [keeper.engine for keeper in keepers]
        if starts == self._starts or any(keeper.state != "ready" for keeper in keepers) or not all(engines):
            return
        self._starts = starts
        pids = [running.pid() for running in engines if running is not None]
        found = server_record(
            self.prepared, [k.cold_start for k in keepers if k.cold_start is not None], pids, keepers[0].greeting
        )
        self.run.supersede(Server.file_name)
        found.write(self.run.path)

    def _drain(self) -> None:
        self._become("draining")
        self.publish()
        if self.front is None:
            return
        self._refuse_requests()
        until = time.monotonic() + self.prepared.experiment.operations.drain_s
        while self.front.in_flight() and time.monotonic() < until and not self.hurried:
            time.sleep(_LOOK_S)

    def _stop(self) -> None:
        # What a front stands before has been drained by it: whatever still runs has had its time.
        drain = not self._error and self.front is None
        limit_s = self.prepared.experiment.operations.drain_s + 2 * GRACE_S + 10
        # The router goes last: the answers of draining engines pass through it.
        for keepers in (self.replicas, [self.router] if self.router is not None else []):
            for keeper in keepers:
                keeper.close(drain=drain)
            self._join(keepers, limit_s)
        if self.policy is not None:
            # After the engines: a wake under way ends with them, however long it would have taken.
            self.policy.close()
            with contextlib.suppress(OSError, TokenhourError):
                idle_policy.write_record(self.run, self.prepared.experiment.operations.idle, self.prepared.accelerators)
        self._become("failed" if self._error else "stopped")
        self.publish()
        self.run.note("serving", "failed" if self._error else "done", self._error[:300])

    def _join(self, keepers: Sequence[Keeper], limit_s: float) -> None:
        until = time.monotonic() + limit_s
        while any(keeper.is_alive() for keeper in keepers) and time.monotonic() < until:
            if self.hurried:
                for keeper in keepers:
                    keeper.kill()
            time.sleep(_LOOK_S)

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
        launch = self.prepared.launches[0]
        return ServerState(
            run=self.run.path.name,
            state=self._state,
            supervisor_pid=os.getpid(),
            supervisor_start=start_of(os.getpid()) or 0,
            base_url=self.prepared.base_url,
            model_id=launch.model_id,
            mode="up",
            since_utc=self._since,
            started_utc=self._began,
            checkpoint=self.prepared.checkpoint.path,
            api_key_env=self.prepared.experiment.operations.api_key_env,
            last_request_utc=self.activity.last_request_utc,
            idle_policy=self.prepared.experiment.operations.idle.policy,
            wakes=self.policy.wakes if self.policy else 0,
            asleep_s=round(self.policy.asleep_s, 1) if self.policy else 0.0,
            error=self._error,
            replicas=tuple(_replica(keeper) for keeper in self.replicas),
            load=self.activity.load(),
        )


def _replica(keeper: Keeper) -> ReplicaState:
    running = keeper.engine
    return ReplicaState(
        state=keeper.state,
        url=keeper.launch.base_url,
        pid=running.pid() if running is not None else None,
        phase=keeper.phase if keeper.state == "starting" else "",
        restarts=keeper.restarts,
        ready_s=round(keeper.cold_start.ready_s, 2) if keeper.cold_start else None,
        error=keeper.error.splitlines()[0] if keeper.error else "",
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
