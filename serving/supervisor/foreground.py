"""One serving session: start, record what really runs, run a command beside it, stop."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.config.operations import RestartSpec
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.records.server import Server
from tokenhour.machine.processes import bound_to_us, wait_or_kill
from tokenhour.machine.progress import Status
from tokenhour.machine.run_folder import now_utc
from tokenhour.serving.engine.verify_weights import Verification
from tokenhour.serving.preflight import Prepared, exclusive, old_logs, prepare, say_memory
from tokenhour.serving.state import State
from tokenhour.serving.supervisor.start_sequence import ServerProcesses

_POLL_S = 0.2
_GRACE_S = 15.0


@contextlib.contextmanager
def serve(experiment: Experiment, scheme: str, results: Path, root: Path) -> Iterator[tuple[ServerProcesses, Server]]:
    """Start the engines of one scheme, write server.json once they have answered, stop them when the block ends.

    The weights are hashed while the engines start: InputError, and no engine, when they are not their manifest's.
    """
    prepared = prepare(experiment, scheme, results, root, verify=False)
    weights = Verification(prepared.checkpoint)
    say_memory(prepared)
    run = prepared.run
    with exclusive(run), signals_leave() as asked:
        run.supersede(Server.file_name, *old_logs(run))
        run.note("serving", "started")
        try:
            with weights.beside(), _started(prepared, weights, asked) as running:
                server = _recorded(running)
                server.write(run.path)
                told = running.state("run", "ready", now_utc())
                told.write(run.path)
                state: State = "stopped"
                failure = ""
                try:
                    yield running, server
                except SystemExit as leaving:
                    if leaving.code == 128 + signal.SIGTERM and asked.times == 1:
                        drain(running)
                    raise
                except RunFailedError as error:
                    state, failure = "failed", str(error)
                    raise
                finally:
                    replace(told, state=state, error=failure, since_utc=now_utc()).write(run.path)
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            run.note("serving", "interrupted" if stopped else "failed", str(error)[:300])
            raise
        run.note("serving", "done")


@contextlib.contextmanager
def _started(prepared: Prepared, weights: Verification, asked: Asked) -> Iterator[ServerProcesses]:
    """Start a server of which nothing is started again: a measurement with a part of the fleet is none."""
    once = prepared.experiment.operations.model_copy(update={"restart": RestartSpec(max_restarts=0)})
    running = ServerProcesses(prepared, weights, once)
    with contextlib.ExitStack() as stack:
        stack.callback(_end, running, asked)
        with Status(f"vLLM with {prepared.scheme}") as status:

            def show() -> bool:
                waited = [keeper.phase for keeper in running.keepers if keeper.is_alive() and keeper.state == "starting"]
                status.update(", ".join(dict.fromkeys(waited)) or "hashing the weights")
                return False

            running.start(show)
            status.update("ready")
        running.open_front(stack)
        yield running


def _recorded(running: ServerProcesses) -> Server:
    found = running.record()
    if found is None:
        running.check()
        raise RunFailedError("an engine ended as soon as it was ready", where=str(running.prepared.run.path))
    return found


def _end(running: ServerProcesses, asked: Asked) -> None:
    try:
        running.stop(drain=False, at_once=lambda: asked.times > 1)
    except BaseException:
        # A signal says that whoever waits has waited enough.
        running.stop(drain=False, at_once=lambda: True)
        raise


def drain(running: ServerProcesses) -> None:
    """Take no new requests, let running ones end (operations.drain_s), and wait until the engines have ended."""
    if running.front is not None:
        running.front.refuse()
    running.stop(drain=True, at_once=lambda: False)


@dataclass(slots=True)
class Asked:
    """How often somebody has asked for the end: once drains, once more stops at once."""

    times: int = 0


@contextlib.contextmanager
def signals_leave() -> Iterator[Asked]:
    """Turn SIGTERM and SIGHUP into SystemExit and SIGINT into KeyboardInterrupt, so that every `finally` above runs."""
    asked = Asked()

    def leave(number: int, _: FrameType | None) -> NoReturn:
        asked.times += 1
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    # A shell starts what runs in its background deaf to Ctrl-C: that stays.
    deaf = {signal.SIGINT} if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else set()
    numbers = {signal.SIGTERM, signal.SIGHUP, signal.SIGINT} - deaf
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stay(running: ServerProcesses) -> None:
    """Serve until somebody asks for the end, by Ctrl-C, SIGTERM or SIGHUP; then let running requests end.

    That was all the work: it returns. Raises RunFailedError when an engine ends by itself.
    """
    try:
        while True:
            running.check()
            time.sleep(_POLL_S)
    except (KeyboardInterrupt, SystemExit):
        print("\n   stopping; once more stops it at once", file=sys.stderr)
        drain(running)


def run_beside(running: ServerProcesses, command: tuple[str, ...], server_json: Path) -> int:
    """Run `command` while the engine lives; return its exit code. It dies with us, and is stopped if the engine ends."""
    environment = {**os.environ, "TOKENHOUR_SERVER": str(server_json)}
    if key := running.prepared.secrets.get("VLLM_API_KEY"):
        environment.setdefault("OPENAI_API_KEY", key)
    if shutil.which(command[0]) is None:
        raise InputError(f"cannot run {command[0]}: no such program", where="--", remedy="check the command")
    child = subprocess.Popen(bound_to_us(command), env=environment)
    try:
        while (code := child.poll()) is None:
            running.check()
            time.sleep(_POLL_S)
    except BaseException:
        child.terminate()
        wait_or_kill(child, _GRACE_S)
        raise
    return code
