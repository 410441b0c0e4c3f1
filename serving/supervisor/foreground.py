"""One serving session: start, record what really runs, run a command beside it, stop."""

from __future__ import annotations

import contextlib
import os
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
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.records.server import Server
from tokenhour.machine.processes import die_with_parent
from tokenhour.machine.run_folder import now_utc
from tokenhour.serving.engine.verify_weights import Verification
from tokenhour.serving.preflight import exclusive, old_logs, prepare, say_memory
from tokenhour.serving.state import State
from tokenhour.serving.supervisor.fleet import Fleet, announce, started

_POLL_S = 0.2
_GRACE_S = 15.0


@contextlib.contextmanager
def serve(experiment: Experiment, scheme: str, results: Path, root: Path) -> Iterator[tuple[Fleet, Server]]:
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
            with weights.beside(), started(prepared, weights) as fleet:
                server = fleet.record()
                server.write(run.path)
                told = announce(prepared, server, "run", "ready")
                told.write(run.path)
                state: State = "stopped"
                failure = ""
                try:
                    yield fleet, server
                except SystemExit as leaving:
                    if leaving.code == 128 + signal.SIGTERM and asked.times == 1:
                        fleet.drain()
                    raise
                except RunFailedError as error:
                    state, failure = "failed", str(error)
                    raise
                finally:
                    if asked.times > 1:
                        fleet.kill()
                    replace(told, state=state, error=failure, since_utc=now_utc()).write(run.path)
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            run.note("serving", "interrupted" if stopped else "failed", str(error)[:300])
            raise
        run.note("serving", "done")


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


def stay(running: Fleet) -> None:
    """Serve until somebody asks for the end, by Ctrl-C, SIGTERM or SIGHUP; then let running requests end.

    That was all the work: it returns. Raises RunFailedError when an engine ends by itself.
    """
    try:
        while True:
            running.check()
            time.sleep(_POLL_S)
    except (KeyboardInterrupt, SystemExit):
        print("\n   stopping; once more stops it at once", file=sys.stderr)
        running.drain()


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
    except BaseException as error:
        child.kill()
        child.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
