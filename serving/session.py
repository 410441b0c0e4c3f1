"""One serving session: check everything, start, record what really runs, run a command beside it, stop."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from contracts.checkpoint import Checkpoint
from contracts.environment import accelerator, usable_cpus
from contracts.errors import InputError
from contracts.experiment import Experiment
from contracts.process import die_with_parent
from contracts.progress import Status
from contracts.rundir import RunDir, now_utc
from contracts.server import Server
from serving.command import Launch, plan
from serving.diagnose import quantization_of
from serving.engine import choose_port, device_of, engine_python, preflight_memory, versions
from serving.supervise import Engine, engine, wait_ready

LOG = "server.log"
_POLL_S = 0.2
_GRACE_S = 15.0


def prepare(
    experiment: Experiment, scheme: str, results: Path, root: Path, *, verify: bool = True
) -> tuple[RunDir, Checkpoint, Launch]:
    """Check checkpoint, engine, device, memory and port; nothing has been started when InputError is raised."""
    run = RunDir.of(results, experiment, scheme)
    if not Checkpoint.exists(run.path):
        raise InputError(
            "no checkpoint for this scheme yet",
            where=str(run.path),
            remedy=f"tokenhour quantize run EXP --scheme {scheme}",
        )
    checkpoint = Checkpoint.read(run.path)
    python, name = engine_python(root)
    device = device_of(experiment, name)
    if verify:
        checkpoint.verify(Path(checkpoint.path))
    port = choose_port(experiment.serving.host, experiment.serving.port)
    launch = plan(experiment, checkpoint, device, usable_cpus(), port, python)
    preflight_memory(checkpoint, experiment, device)
    return run, checkpoint, launch


@contextlib.contextmanager
def exclusive(run: RunDir) -> Iterator[None]:
    """Hold the run folder for this process; the kernel lets go of it however the process ends."""
    with (run.path / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                "another server is using this run folder", where=str(run.path), remedy="stop it first"
            ) from error
        yield


@contextlib.contextmanager
def serve(experiment: Experiment, scheme: str, results: Path, root: Path) -> Iterator[tuple[Engine, Server]]:
    """Start the engine of one scheme, write server.json once it has answered, stop it when the block ends."""
    run, checkpoint, launch = prepare(experiment, scheme, results, root)
    with exclusive(run), sigterm_exits():
        run.supersede(Server.file_name, LOG)
        run.note("serving", "started")
        try:
            with engine(launch, run.path / LOG) as running:
                with Status(f"vLLM with {scheme}") as status:
                    cold_start, greeting = wait_ready(running, experiment.serving.ready_timeout_s, status)
                    status.update("ready")
                server = Server(
                    engine=engine_python(root)[1],
                    argv=launch.argv,
                    environment=dict(launch.environment),
                    base_url=launch.base_url,
                    model_id=launch.model_id,
                    scheme=scheme,
                    checkpoint_path=checkpoint.path,
                    checkpoint_sha256=Checkpoint.sha256_in(run.path),
                    accelerator=accelerator(),
                    engine_pid=running.pid(),
                    cold_start=cold_start,
                    greeting=greeting,
                    quantization=quantization_of(running.log_text()),
                    versions=versions(root),
                    log_path=str(running.log),
                    started_utc=now_utc(),
                    inputs={"checkpoint.json": Checkpoint.sha256_in(run.path)},
                )
                server.write(run.path)
                yield running, server
        except BaseException as error:
            run.note(
                "serving",
                "interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed",
                str(error)[:300],
            )
            raise
        run.note("serving", "done")


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


def run_beside(running: Engine, command: tuple[str, ...], server_json: Path) -> int:
    """Run `command` while the engine lives; return its exit code. It dies with us, and is stopped if the engine ends."""
    me = os.getpid()
    try:
        child = subprocess.Popen(
            command,
            env={**os.environ, "TOKENHOUR_SERVER": str(server_json)},
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
