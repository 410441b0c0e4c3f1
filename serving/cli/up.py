"""`tokenhour serving up` and `down`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import click

from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.serving.state import LIVE, ORDER_FILE, STATE_FILE, ServerState, all_states, read_state

SUPERVISOR_LOG = "supervisor.log"
_LOOK_S = 0.1
_KILL_AFTER_S = 45.0


@click.command("up")
@click.argument("experiment_file", metavar="EXP", type=click.Path(path_type=Path))
@click.option("--scheme", "only", help="Which scheme; the first that EXP names when absent.")
@click.option("--results", default=Path("results"), type=click.Path(path_type=Path), show_default=True)
@click.option("--no-wait", is_flag=True, help="Return as soon as the supervisor lives, before the server is ready.")
def up(experiment_file: Path, only: str | None, results: Path, no_wait: bool) -> None:
    """Start a server that stays: engines, router and front under a supervisor that outlives this command.

    The `operations` section of EXP says how it is kept up: restarts, idle policy, draining, key, TLS, log sizes.

    \b
    Examples:
      tokenhour serving up EXP.yaml --scheme w8a8
      tokenhour serving status
      tokenhour serving down EXP.yaml --scheme w8a8
    """
    from tokenhour.contracts.config.experiment import load_experiment
    from tokenhour.serving.cli.run import announce, chosen_schemes, invite
    from tokenhour.serving.engine.verify_weights import Verification
    from tokenhour.serving.preflight import exclusive, prepare, say_memory
    from tokenhour.serving.proxy import idle_policy

    experiment = load_experiment(experiment_file)
    scheme = chosen_schemes(experiment, only, experiment_file, several=False)[0]
    prepared = prepare(experiment, scheme, results, Path.cwd(), verify=False, kept_up=True)
    Verification(prepared.checkpoint)  # what is small; the supervisor hashes the weights beside the start
    say_memory(prepared)
    folder = prepared.run.path
    with exclusive(prepared.run):
        # What the last one left is derived by the order that it had.
        idle_policy.settle(prepared.run)
        (folder / STATE_FILE).unlink(missing_ok=True)
    order = folder / ORDER_FILE
    order.write_bytes(experiment.to_json())
    child = _spawn(folder, [str(order.resolve()), scheme, str(results.resolve()), str(Path.cwd())])
    state = _wait(child, folder, f"vLLM with {scheme}", ready=not no_wait)
    if no_wait:
        print(f"   starting as {state.run}; `tokenhour serving status` says how it goes", file=sys.stderr)
        return
    from tokenhour.contracts.records.server import Server

    deadline = time.monotonic() + 5
    while not Server.exists(folder) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    server = Server.read(folder)
    announce(server)
    invite(server, stop=f"tokenhour serving down {state.run} stops it")


def _spawn(folder: Path, arguments: list[str]) -> int:
    """Start the supervisor in a session of its own and return its pid; it is meant to outlive us."""
    log = os.open(folder / SUPERVISOR_LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "tokenhour.serving.supervisor.daemon", *arguments],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(log)


def _wait(child: int, folder: Path, title: str, *, ready: bool) -> ServerState:
    """Wait for the state that is asked for; Ctrl-C takes the supervisor down again."""
    from tokenhour.machine.progress import Status

    ended = False
    try:
        with Status(title) as status:
            while True:
                gone, code = os.waitpid(child, os.WNOHANG)
                # Read after that: what it said last is there by then.
                state = read_state(folder)
                if ended := gone == child:
                    _say_why(folder, state, os.waitstatus_to_exitcode(code))
                if state is not None and (not ready or state.state in {"ready", "degraded", "asleep"}):
                    return state
                if state is not None:
                    status.update(", ".join(dict.fromkeys(each.phase or each.state for each in state.replicas)))
                time.sleep(_LOOK_S)
    except BaseException:
        if not ended:
            os.kill(child, signal.SIGTERM)
            try:
                os.waitpid(child, 0)
            except KeyboardInterrupt:
                os.kill(child, signal.SIGTERM)
                os.waitpid(child, 0)
        raise


def _say_why(folder: Path, state: ServerState | None, code: int) -> NoReturn:
    """Pass on what the supervisor said, with its exit code: a mistake that only it could find is one as well."""
    log = folder / SUPERVISOR_LOG
    said = log.read_text(errors="replace").strip()
    if code == InputError.exit_code:
        raise InputError(state.error if state is not None and state.error else f"\n{said}".partition("\nerror: ")[2])
    if state is not None and state.error:
        raise RunFailedError(state.error)
    raise RunFailedError(f"the supervisor ended\n{said[-2000:]}", where=str(log), remedy="read its log")


@click.command("down")
@click.argument("which", metavar="[EXP|RUN]", required=False)
@click.option("--scheme", "only", help="Which scheme of EXP; all of its servers when absent.")
@click.option("--results", default=Path("results"), type=click.Path(path_type=Path), show_default=True)
@click.option("--all", "everything", is_flag=True, help="Every server below the results folder.")
def down(which: str | None, only: str | None, results: Path, everything: bool) -> None:
    """Stop servers: new requests are refused, running ones may end (operations.drain_s), then the whole tree goes.

    \b
    Examples:
      tokenhour serving down EXP.yaml
      tokenhour serving down demo-w8a8
      tokenhour serving down --all
    """
    meant = chosen(which, only, results, everything)
    for folder, state in meant:
        if state.state == "killed":
            _settle(folder)
    live = [(folder, state) for folder, state in meant if state.state in LIVE]
    if not live:
        print("   nothing to stop", file=sys.stderr)
        return
    for _, state in live:
        stop_supervisor(state, signal.SIGTERM)
    for folder, state in live:
        _wait_gone(folder, state)
        print(f"   {state.run} is stopped", file=sys.stderr)


def chosen(which: str | None, only: str | None, results: Path, everything: bool = False) -> list[tuple[Path, ServerState]]:
    """Return the servers that are meant by an experiment file, a run's name or everything; InputError for a name unknown."""
    found = list(all_states(results))
    file = Path(which) if which is not None and Path(which).suffix in {".yaml", ".yml", ".json"} else None
    if only is not None and file is None:
        raise InputError("a scheme is one of an experiment's", where="--scheme", remedy="name its file: EXP.yaml --scheme S")
    if everything:
        return found
    if which is None:
        live = [(folder, state) for folder, state in found if state.state in LIVE]
        if len(live) > 1:
            said = ", ".join(state.run for _, state in live)
            raise InputError("several servers run", where=str(results), remedy=f"name one of {said}, or say --all")
        return live or found[-1:]
    if file is not None:
        from tokenhour.contracts.config.experiment import load_experiment
        from tokenhour.serving.cli.run import chosen_schemes

        experiment = load_experiment(file)
        names = {experiment.run_name(scheme) for scheme in chosen_schemes(experiment, only, file, several=True)}
    else:
        names = {which}
        if which not in {state.run for _, state in found}:
            from tokenhour.contracts.errors import nearest

            known = [state.run for _, state in found]
            remedy = nearest(which, known) if known else "start one: tokenhour serving up EXP"
            raise InputError(f"no server {which}", where=str(results), remedy=remedy)
    return [(folder, state) for folder, state in found if state.run in names]


def stop_supervisor(state: ServerState, number: signal.Signals) -> None:
    """Signal a supervisor, if it is still the same process; it takes everything of its own down."""
    if state.alive():
        try:
            os.kill(state.supervisor_pid, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise RunFailedError(
                f"{state.run} belongs to somebody else (pid {state.supervisor_pid})", remedy="ask them, or use sudo"
            ) from error


def _wait_gone(folder: Path, state: ServerState) -> None:
    from tokenhour.machine.progress import Status

    deadline = time.monotonic() + _drain_s(folder) + _KILL_AFTER_S
    with Status(f"stopping {state.run}") as status:
        while state.alive():
            now = read_state(folder)
            status.update(now.state if now else "")
            if time.monotonic() > deadline:
                # Its guardians notice, and take the engines with them.
                stop_supervisor(state, signal.SIGKILL)
                _settle(folder)
                return
            time.sleep(_LOOK_S)


def _settle(folder: Path) -> None:
    from tokenhour.machine.run_folder import RunDir
    from tokenhour.serving.proxy import idle_policy

    idle_policy.settle(RunDir(folder))


def _drain_s(folder: Path) -> float:
    import json

    try:
        return float(json.loads((folder / ORDER_FILE).read_text())["operations"]["drain_s"])
    except (OSError, ValueError, KeyError):
        return 0.0
