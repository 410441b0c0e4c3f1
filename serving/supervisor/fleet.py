"""Running engines with their router and front, and what is written down of them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from tokenhour.contracts.errors import RunFailedError
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.quality_gate import judge_quality
from tokenhour.contracts.records.server import ColdStart, Replica, Server
from tokenhour.machine.hardware import accelerator_for
from tokenhour.machine.progress import Status
from tokenhour.machine.run_folder import now_utc
from tokenhour.serving.engine.crash_diagnosis import quantization_of
from tokenhour.serving.engine.guardian import GRACE_S
from tokenhour.serving.engine.log_files import read_all
from tokenhour.serving.engine.process import Engine, engine
from tokenhour.serving.engine.readiness import wait_ready
from tokenhour.serving.engine.router import router_version
from tokenhour.serving.engine.verify_weights import Verification
from tokenhour.serving.preflight import Prepared
from tokenhour.serving.proxy.server import Front, front
from tokenhour.serving.state import ReplicaState, ServerState, start_of

_POLL_S = 0.05


@dataclass(slots=True)
class Fleet:
    """Running engines, their router and their front."""

    prepared: Prepared
    engines: list[Engine]
    starts: list[tuple[ColdStart, str]] = field(default_factory=list)
    router: Engine | None = None
    front: Front | None = None

    @property
    def guard(self) -> subprocess.Popen[bytes]:
        """The first engine's guardian."""
        return self.engines[0].guard

    def pid(self) -> int:
        """Return the root of the first engine's process tree."""
        return self.engines[0].pid()

    def check(self) -> None:
        """Raise RunFailedError when one of them has ended: a measurement with a part of the fleet is none."""
        for running in (*self.engines, *([self.router] if self.router else [])):
            running.check()

    def drain(self) -> None:
        """Take no new requests, let running ones end (operations.drain_s), and wait until the engines have ended."""
        if self.front is not None:
            self.front.refuse()
        for running in self.engines:
            running.drain()
        until = time.monotonic() + self.prepared.experiment.operations.drain_s + GRACE_S
        while not all(running.ended() for running in self.engines) and time.monotonic() < until:
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """Have everything killed, whatever still runs; returns at once."""
        for running in (*self.engines, *([self.router] if self.router else [])):
            running.kill()

    def record(self) -> Server:
        """Write down what really runs."""
        pids = [running.pid() for running in self.engines]
        return server_record(self.prepared, [start for start, _ in self.starts], pids, self.starts[0][1])


@contextlib.contextmanager
def started(prepared: Prepared, weights: Verification) -> Iterator[Fleet]:
    """Start engines, then the router, then the front, each once the one behind it answers; stop them in reverse.

    Nothing is ready before `weights` are known to be the manifest's.
    """
    operations, timeout_s = prepared.experiment.operations, prepared.experiment.serving.ready_timeout_s
    with contextlib.ExitStack() as stack:
        engines = [
            stack.enter_context(
                engine(launch, prepared.log_of(index), kept=operations.log, drain_s=float(operations.drain_s))
            )
            for index, launch in enumerate(prepared.launches)
        ]
        fleet = Fleet(prepared, engines)
        with Status(f"vLLM with {prepared.scheme}") as status:
            try:
                fleet.starts = _all_ready(engines, timeout_s, status, weights)
            except RunFailedError:
                # Weights that are not the manifest's are why, before anything that the engine says of them.
                status.update("hashing the weights")
                weights.judge()
                raise
            status.update("hashing the weights")
            weights.judge()
            if prepared.router is not None:
                status.update("router")
                fleet.router = stack.enter_context(engine(prepared.router, prepared.router_log, name="the router"))
                wait_ready(fleet.router, 60.0)
            status.update("ready")
        if prepared.front is not None:
            fleet.front = stack.enter_context(front(prepared.front))
        yield fleet


def _all_ready(
    engines: Sequence[Engine], timeout_s: float, status: Status, weights: Verification
) -> list[tuple[ColdStart, str]]:
    gone = False

    def cancelled() -> bool:
        weights.check()
        return gone

    if len(engines) == 1:
        return [wait_ready(engines[0], timeout_s, status, cancelled)]
    with ThreadPoolExecutor(len(engines)) as pool:
        waits = [pool.submit(wait_ready, each, timeout_s, status, cancelled) for each in engines]
        try:
            # Not in order: the first that fails is told at once, while the others still load.
            for each in wait(waits, return_when=FIRST_EXCEPTION).done:
                each.result()
            return [each.result() for each in waits]
        except BaseException:
            gone = True
            raise


def server_record(prepared: Prepared, starts: Sequence[ColdStart], pids: Sequence[int], greeting: str) -> Server:
    """Describe what really runs; with several replicas the slowest start counts, since a fleet is ready when all are."""
    launch, experiment = prepared.launches[0], prepared.experiment
    slowest = max(starts, key=lambda start: start.ready_s)
    gate, reasons = judge_quality(experiment.quantize.gate, prepared.checkpoint.quality)
    used = prepared.accelerators
    return Server(
        engine=prepared.engine,
        argv=launch.argv,
        environment=dict(launch.environment),
        base_url=prepared.base_url,
        model_id=launch.model_id,
        scheme=prepared.scheme,
        checkpoint_path=prepared.checkpoint.path,
        checkpoint_sha256=Checkpoint.sha256_in(prepared.run.path),
        accelerator=accelerator_for(prepared.device).model_copy(update={"count": used}),
        engine_pid=pids[0],
        cold_start=slowest,
        greeting=greeting,
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
        accelerators_used=used,
        gpus=prepared.gpus,
        synthetic=("dummy weights",) if experiment.serving.dummy_weights else (),
        inputs={"checkpoint.json": Checkpoint.sha256_in(prepared.run.path)},
    )


def announce(prepared: Prepared, server: Server, mode: str, state: str) -> ServerState:
    """Describe the server for `serving status`."""
    replicas = server.replicas or (
        Replica(
            base_url=prepared.launches[0].base_url,
            engine_pid=server.engine_pid,
            cold_start=server.cold_start,
            log_path=server.log_path,
        ),
    )
    return ServerState(
        run=prepared.run.path.name,
        state=state,  # type: ignore[arg-type]
        supervisor_pid=os.getpid(),
        supervisor_start=start_of(os.getpid()) or 0,
        base_url=server.base_url,
        model_id=server.model_id,
        mode=mode,  # type: ignore[arg-type]
        since_utc=now_utc(),
        started_utc=now_utc(),
        checkpoint=server.checkpoint_path,
        api_key_env=server.api_key_env,
        replicas=tuple(
            ReplicaState(state="ready", url=each.base_url, pid=each.engine_pid, ready_s=each.cold_start.ready_s)
            for each in replicas
        ),
    )
