"""One server's processes: engines, then the router, then the front, each once the one behind it answers; down in reverse.

`serving run` and `serving up` both start, watch, record and stop a server with this. They differ in who waits, and in what
becomes of an engine that crashes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from tokenhour.contracts.config.operations import OperationsSpec
from tokenhour.contracts.errors import RunFailedError
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.quality_gate import judge_quality
from tokenhour.contracts.records.server import Replica, Server
from tokenhour.machine.hardware import accelerator_for
from tokenhour.machine.run_folder import now_utc
from tokenhour.serving.engine.crash_diagnosis import quantization_of
from tokenhour.serving.engine.guardian import GRACE_S
from tokenhour.serving.engine.log_files import read_all
from tokenhour.serving.engine.process import Engine
from tokenhour.serving.engine.router import router_version
from tokenhour.serving.engine.verify_weights import Verification
from tokenhour.serving.preflight import Prepared
from tokenhour.serving.proxy.server import Front, front
from tokenhour.serving.state import ReplicaState, ServerState, State, start_of
from tokenhour.serving.supervisor.replica import Keeper

LOOK_S = 0.1
_ROUTER_READY_S = 60.0


class ServerProcesses:
    """The engines of one server, their router and their front. `operations` say what becomes of an engine that crashes."""

    def __init__(self, prepared: Prepared, weights: Verification, operations: OperationsSpec) -> None:
        self.prepared, self.weights = prepared, weights
        self.drain_s = operations.drain_s
        timeout_s = prepared.experiment.serving.ready_timeout_s
        self.replicas = [
            Keeper(launch, prepared.log_of(index), operations, timeout_s) for index, launch in enumerate(prepared.launches)
        ]
        self.router = (
            Keeper(prepared.router, prepared.router_log, operations, _ROUTER_READY_S, name="the router")
            if prepared.router is not None
            else None
        )
        self.front: Front | None = None
        self.began = now_utc()

    @property
    def keepers(self) -> list[Keeper]:
        """The replicas, then the router."""
        return [*self.replicas, *([self.router] if self.router is not None else [])]

    @property
    def engines(self) -> list[Engine]:
        """The engines that run now."""
        return [running for keeper in self.replicas if (running := keeper.engine) is not None]

    # --- start and stop -----------------------------------------------------------------------------------------------

    def start(self, given_up: Callable[[], bool]) -> None:
        """Start the engines, and the router once they are ready and their weights are known to be the manifest's.

        `given_up` is called while it waits: it may show how far things are, and says whether to go on. Raises
        RunFailedError when one of them cannot be started, InputError when the weights are not their manifest's.
        """
        for keeper in self.replicas:
            keeper.start()
        try:
            self._until(lambda: all(keeper.state == "ready" for keeper in self.replicas), given_up)
        except RunFailedError:
            # Weights that are not the manifest's are why, before anything that the engine says of them.
            self._until(self.weights.done, given_up, whatever=True)
            self.weights.check()
            raise
        self._until(self.weights.done, given_up)
        self.weights.check()
        if (router := self.router) is not None and not given_up():
            router.start()
            self._until(lambda: router.state == "ready", given_up)

    def _until(self, condition: Callable[[], bool], given_up: Callable[[], bool], *, whatever: bool = False) -> None:
        """Wait for `condition` until it is given up; with `whatever`, of engines that failed too."""
        while not condition() and not given_up():
            self.weights.check()
            if not whatever:
                self.refuse_failed()
            time.sleep(LOOK_S)

    def open_front(self, stack: contextlib.ExitStack) -> None:
        """Let clients in, where there is a front, until `stack` is closed."""
        if self.prepared.front is not None:
            self.front = stack.enter_context(front(self.prepared.front))

    def refuse_failed(self, *, resting: bool = False) -> None:
        """A server lives as long as one replica does; a router that is gone for good ends it. Raises RunFailedError.

        While it is `resting`, a replica that is stopped is not gone.
        """
        states = [keeper.state for keeper in self.replicas]
        # Stopped while the gate is open: it could not be woken with the others, and nobody will ask for it now.
        gone = {"failed"} if resting else {"failed", "stopped"}
        failed = [keeper for keeper, state in zip(self.replicas, states, strict=True) if state in gone]
        never = [keeper for keeper in failed if keeper.starts == 0]
        if self.router is not None and self.router.state == "failed":
            failed, never = [self.router], [self.router]
        if failed and (never or len(failed) == len(self.replicas)):
            raise failed[0].failure()

    def check(self) -> None:
        """Raise RunFailedError when one of them has ended: a measurement with a part of the fleet is none."""
        for keeper in self.keepers:
            if keeper.state == "failed":
                raise keeper.failure()

    def stop(self, *, drain: bool, at_once: Callable[[], bool]) -> None:
        """End everything; with `drain` running requests may end first, until `at_once` says otherwise."""
        # The router goes last: the answers of draining engines pass through it.
        for keepers in (self.replicas, [self.router] if self.router is not None else []):
            for keeper in keepers:
                keeper.close(drain=drain)
            self._join(keepers, at_once)

    def _join(self, keepers: Sequence[Keeper], at_once: Callable[[], bool]) -> None:
        until = time.monotonic() + self.drain_s + 2 * GRACE_S + 10
        while any(keeper.is_alive() for keeper in keepers) and time.monotonic() < until:
            if at_once():
                for keeper in keepers:
                    keeper.kill()
            time.sleep(LOOK_S / 2)

    # --- what is written down -----------------------------------------------------------------------------------------

    def record(self) -> Server | None:
        """Describe what really runs; None while one of the engines is not ready.

        With several replicas the slowest start counts, since a fleet is ready when all are.
        """
        keepers, prepared = self.replicas, self.prepared
        engines = [keeper.engine for keeper in keepers]
        if any(keeper.state != "ready" for keeper in keepers) or not all(engines):
            return None
        launch, experiment = prepared.launches[0], prepared.experiment
        pids = [running.pid() for running in engines if running is not None]
        starts = [keeper.cold_start for keeper in keepers if keeper.cold_start is not None]
        gate, reasons = judge_quality(experiment.quantize.gate, prepared.checkpoint.quality)
        return Server(
            engine=prepared.engine,
            argv=launch.argv,
            environment=dict(launch.environment),
            base_url=prepared.base_url,
            model_id=launch.model_id,
            scheme=prepared.scheme,
            checkpoint_path=prepared.checkpoint.path,
            checkpoint_sha256=Checkpoint.sha256_in(prepared.run.path),
            accelerator=accelerator_for(prepared.device).model_copy(update={"count": prepared.accelerators}),
            engine_pid=pids[0],
            cold_start=max(starts, key=lambda start: start.ready_s),
            greeting=keepers[0].greeting,
            quantization=quantization_of(read_all(prepared.log_of(0))),
            quality_gate=gate,
            quality_reasons=reasons,
            versions=prepared.versions,
            log_path=str(prepared.log_of(0)),
            started_utc=now_utc(),
            replicas=tuple(
                Replica(base_url=each.base_url, engine_pid=pid, cold_start=start, log_path=str(prepared.log_of(index)))
                for index, (each, pid, start) in enumerate(zip(prepared.launches, pids, starts, strict=True))
            )
            if len(prepared.launches) > 1
            else (),
            router=router_version() if prepared.router is not None else None,
            api_key_env=experiment.operations.api_key_env,
            max_num_seqs=experiment.serving.max_num_seqs,
            accelerators_used=prepared.accelerators,
            gpus=prepared.gpus,
            synthetic=("dummy weights",) if experiment.serving.dummy_weights else (),
            inputs={"checkpoint.json": Checkpoint.sha256_in(prepared.run.path)},
        )

    def state(self, mode: Literal["run", "up"], state: State, since_utc: str, **more: Any) -> ServerState:
        """Describe the server now, for `serving status`; `more` is what only a supervisor that stays knows."""
        return ServerState(
            run=self.prepared.run.path.name,
            state=state,
            supervisor_pid=os.getpid(),
            supervisor_start=start_of(os.getpid()) or 0,
            base_url=self.prepared.base_url,
            model_id=self.prepared.launches[0].model_id,
            mode=mode,
            since_utc=since_utc,
            started_utc=self.began,
            checkpoint=self.prepared.checkpoint.path,
            api_key_env=self.prepared.experiment.operations.api_key_env,
            replicas=tuple(_replica(keeper) for keeper in self.replicas),
            **more,
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
