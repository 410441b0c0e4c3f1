"""One serving session: check everything, start, record what really runs, run a command beside it, stop."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from contracts.checkpoint import Checkpoint
from contracts.environment import accelerator
from contracts.errors import InputError
from contracts.experiment import Experiment
from contracts.gate import judge_quality
from contracts.kernels import refuse_without_kernel
from contracts.process import die_with_parent
from contracts.progress import Status
from contracts.rundir import RunDir, now_utc
from contracts.server import ColdStart, Replica, Server
from serving import arguments, memory
from serving.command import Launch, base_url, places, plan
from serving.diagnose import quantization_of
from serving.engine import (
    LOOPBACK,
    check_exposure,
    check_idle,
    check_parallelism,
    choose_ports,
    compute_capability,
    device_of,
    engine_python,
    usable_cores,
    versions,
    visible_gpus,
)
from serving.front import Front, FrontSpec, front
from serving.guard import GRACE_S
from serving.logs import read_all
from serving.router import plan_router, router_version
from serving.state import ReplicaState, ServerState, start_of
from serving.supervise import Engine, engine, wait_ready

LOG = "server.log"
ROUTER_LOG = "router.log"
_POLL_S = 0.2
_GRACE_S = 15.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that was decided before anything is started."""

    run: RunDir
    experiment: Experiment
    scheme: str
    checkpoint: Checkpoint
    launches: tuple[Launch, ...]
    """One a replica."""
    router: Launch | None
    front: FrontSpec | None
    engine: str
    versions: dict[str, str]
    budget: memory.Budget
    secrets: dict[str, str] = field(repr=False, default_factory=dict)

    @property
    def base_url(self) -> str:
        """Where clients go."""
        if self.front is not None:
            scheme = "https" if self.front.tls_certificate else "http"
            return base_url(self.front.host, self.front.port, scheme)
        return (self.router or self.launches[0]).base_url

    def log_of(self, index: int) -> Path:
        """Return the log of one replica."""
        return self.run.path / (LOG if len(self.launches) == 1 else f"server-{index}.log")

    @property
    def router_log(self) -> Path:
        """Return the router's log."""
        return self.run.path / ROUTER_LOG


def prepare(
    experiment: Experiment, scheme: str, results: Path, root: Path, *, verify: bool = True, kept_up: bool = False
) -> Prepared:
    """Check checkpoint, engine, device, arguments, secrets, memory and ports; nothing was started when InputError is raised.

    `kept_up` is for a server that stays: only then the idle policy counts.
    """
    run = RunDir.of(results, experiment, scheme)
    if not Checkpoint.exists(run.path):
        raise InputError(
            "no checkpoint for this scheme yet",
            where=str(run.path),
            remedy=f"tokenhour quantize run EXP --scheme {scheme}",
        )
    checkpoint = Checkpoint.read(run.path)
    if not kept_up:
        idle = experiment.operations.idle.model_copy(update={"policy": "none"})
        operations = experiment.operations.model_copy(update={"idle": idle})
        experiment = experiment.model_copy(update={"operations": operations})
    python, name = engine_python(root)
    device = device_of(experiment, name)
    refuse_without_kernel(scheme, device, compute_capability() if device == "cuda" else None)
    secrets, found, gpus = check_exposure(experiment), versions(root), visible_gpus()
    check_idle(experiment, device)
    check_parallelism(experiment, device, len(gpus), found)
    arguments.check_installed(experiment.serving.engine_args, root)
    budget = _fits(checkpoint, experiment, device)
    if verify:
        checkpoint.verify(Path(checkpoint.path))
    ports = _ports(experiment)
    model_id = f"{checkpoint.model_name}-{scheme}"
    host = experiment.serving.host if ports.router is None and ports.front is None else "127.0.0.1"
    replicas = places(experiment, device, ports.engines, host, usable_cores(), gpus)
    launches = tuple(plan(experiment, checkpoint, place, python, secrets) for place in replicas)
    router = _router(experiment, launches, ports, model_id, secrets)
    return Prepared(
        run=run,
        experiment=experiment,
        scheme=scheme,
        checkpoint=checkpoint,
        launches=launches,
        router=router,
        front=_front(experiment, (router or launches[0]).base_url, ports.front, model_id, secrets),
        engine=name,
        versions=found,
        budget=budget,
        secrets=secrets,
    )


@dataclass(frozen=True, slots=True)
class _Ports:
    engines: tuple[int, ...]
    router: tuple[int, int] | None
    front: int | None


def _needs_front(experiment: Experiment) -> bool:
    operations = experiment.operations
    exposed = experiment.serving.host not in LOOPBACK or operations.tls_certificate is not None
    return exposed or operations.idle.policy != "none"


def _ports(experiment: Experiment) -> _Ports:
    """Give the outermost layer the experiment's port and everything behind it free ones."""
    serving, several = experiment.serving, experiment.serving.replicas > 1
    fronted = _needs_front(experiment)
    inner = serving.replicas * (several or fronted) + several * (2 if fronted else 1)
    free = list(choose_ports("127.0.0.1", [0] * inner))
    outer = choose_ports(serving.host, [serving.port])[0]
    engines = tuple(free.pop() for _ in range(serving.replicas)) if several or fronted else (outer,)
    router = ((free.pop() if fronted else outer), free.pop()) if several else None
    return _Ports(engines, router, outer if fronted else None)


def _router(
    experiment: Experiment, launches: Sequence[Launch], ports: _Ports, model_id: str, secrets: dict[str, str]
) -> Launch | None:
    if ports.router is None:
        return None
    router_version()
    host = "127.0.0.1" if ports.front is not None else experiment.serving.host
    return plan_router(experiment, [launch.base_url for launch in launches], host, ports.router, model_id, secrets)


def _front(
    experiment: Experiment, upstream: str, port: int | None, model_id: str, secrets: dict[str, str]
) -> FrontSpec | None:
    if port is None:
        return None
    operations, host = experiment.operations, experiment.serving.host
    return FrontSpec(
        host=host,
        port=port,
        upstream=upstream,
        model_id=model_id,
        key=secrets.get("VLLM_API_KEY"),
        tls_certificate=operations.tls_certificate,
        tls_key=operations.tls_key,
        show_metrics=host in LOOPBACK,
        max_waiting=operations.idle.max_waiting,
        wake_timeout_s=operations.idle.wake_timeout_s,
        keepalive_s=operations.keepalive_s,
    )


def _fits(checkpoint: Checkpoint, experiment: Experiment, device: str) -> memory.Budget:
    have = memory.available_host_bytes() if device == "cpu" else accelerator().memory_bytes
    found = memory.budget(checkpoint, experiment.serving, device, have)
    memory.refuse(found, checkpoint, experiment.serving, device)
    return found


@contextlib.contextmanager
def exclusive(run: RunDir) -> Iterator[None]:
    """Hold the run folder for this process; the kernel lets go of it however the process ends."""
    with (run.path / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                "another server is using this run folder",
                where=str(run.path),
                remedy="stop it first: tokenhour serving down",
            ) from error
        yield


@contextlib.contextmanager
def serve(experiment: Experiment, scheme: str, results: Path, root: Path) -> Iterator[tuple[Fleet, Server]]:
    """Start the engines of one scheme, write server.json once they have answered, stop them when the block ends."""
    prepared = prepare(experiment, scheme, results, root)
    say_memory(prepared)
    run = prepared.run
    with exclusive(run), sigterm_exits():
        run.supersede(Server.file_name, *old_logs(run))
        run.note("serving", "started")
        try:
            with _started(prepared) as fleet:
                server = fleet.record()
                server.write(run.path)
                told = announce(prepared, server, "run", "ready")
                told.write(run.path)
                try:
                    yield fleet, server
                except SystemExit as leaving:
                    if leaving.code == 128 + signal.SIGTERM:
                        fleet.drain()
                    raise
                finally:
                    replace(told, state="stopped", since_utc=now_utc()).write(run.path)
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            run.note("serving", "interrupted" if stopped else "failed", str(error)[:300])
            raise
        run.note("serving", "done")


def say_memory(prepared: Prepared) -> None:
    """Say before anything is loaded what it will take, and how many sequences fit at once."""
    fit, most = prepared.budget.concurrent_sequences(), prepared.experiment.serving.max_num_seqs
    queued = f"; above that serving.max_num_seqs = {most} waits" if fit is not None and fit < most else ""
    print(f"   {prepared.scheme}: {prepared.budget.sentence()}{queued}", file=sys.stderr)


def old_logs(run: RunDir) -> list[str]:
    """Name the logs of earlier sessions."""
    return [file.name for pattern in ("server*.log*", "router.log*") for file in sorted(run.path.glob(pattern))]


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
            time.sleep(_POLL_S / 4)

    def record(self) -> Server:
        """Write down what really runs."""
        pids = [running.pid() for running in self.engines]
        return server_record(self.prepared, [start for start, _ in self.starts], pids, self.starts[0][1])


@contextlib.contextmanager
def _started(prepared: Prepared) -> Iterator[Fleet]:
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
            fleet.starts = _all_ready(engines, timeout_s, status)
            if prepared.router is not None:
                status.update("router")
                fleet.router = stack.enter_context(engine(prepared.router, prepared.router_log, name="the router"))
                wait_ready(fleet.router, 60.0)
            status.update("ready")
        if prepared.front is not None:
            fleet.front = stack.enter_context(front(prepared.front))
        yield fleet


def _all_ready(engines: Sequence[Engine], timeout_s: float, status: Status) -> list[tuple[ColdStart, str]]:
    if len(engines) == 1:
        return [wait_ready(engines[0], timeout_s, status)]
    gone = False
    with ThreadPoolExecutor(len(engines)) as pool:
        waits = [pool.submit(wait_ready, each, timeout_s, status, lambda: gone) for each in engines]
        try:
            return [wait.result() for wait in waits]
        except BaseException:
            gone = True
            raise


def server_record(prepared: Prepared, starts: Sequence[ColdStart], pids: Sequence[int], greeting: str) -> Server:
    """Describe what really runs; with several replicas the slowest start counts, since a fleet is ready when all are."""
    launch, experiment = prepared.launches[0], prepared.experiment
    slowest = max(starts, key=lambda start: start.ready_s)
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
        accelerator=accelerator(),
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
        accelerators_used=experiment.serving.replicas * experiment.serving.gpus_per_replica()
        if accelerator().kind == "cuda"
        else 1,
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


@contextlib.contextmanager
def sigterm_exits() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that every `finally` above runs."""

    def leave(number: int, _: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_beside(running: Fleet, command: tuple[str, ...], server_json: Path) -> int:
    """Run `command` while the engine lives; return its exit code. It dies with us, and is stopped if the engine ends."""
    me = os.getpid()
    environment = {**os.environ, "TOKENHOUR_SERVER": str(server_json)}
    if key := running.prepared.secrets.get("VLLM_API_KEY"):
        environment.setdefault("OPENAI_API_KEY", key)
    try:
        child = subprocess.Popen(
            command,
            env=environment,
            preexec_fn=lambda: die_with_parent(me),  # noqa: PLW1509 (no other thread holds a lock here)
        )
    except OSError as error:
        raise InputError(f"cannot run {command[0]}: {error.strerror}", where="--", remedy="check the command") from error
    try:
        while (code := child.poll()) is None:
            running.check()
            time.sleep(_POLL_S)
    except BaseException:
        _stop(child)
        raise
    return code


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
