"""`tokenhour serving run` and `command`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tokenhour.contracts.config.experiment import Experiment, load_experiment
from tokenhour.contracts.errors import InputError, nearest
from tokenhour.contracts.records.quality_gate import said
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.units import human_seconds
from tokenhour.machine.run_folder import RunDir


@click.command("run", context_settings={"ignore_unknown_options": True})
@click.argument("experiment_file", metavar="EXP", type=click.Path(path_type=Path))
@click.option("--scheme", "only", help="One scheme instead of all that EXP names.")
@click.option("--results", default=Path("results"), type=click.Path(path_type=Path), show_default=True)
@click.argument("command", metavar="[-- CMD...]", nargs=-1, type=click.UNPROCESSED)
def run(experiment_file: Path, only: str | None, results: Path, command: tuple[str, ...]) -> None:
    """Start the server of EXP, wait until it has answered, run CMD beside it, and stop it again.

    Without CMD it serves until Ctrl-C or SIGTERM, and exits with 0. With several schemes CMD runs once for each;
    TOKENHOUR_SERVER names the server.json of the one that runs. The exit code is CMD's.

    \b
    Examples:
      tokenhour serving run configs/experiments/demo.yaml --scheme w8a8
      tokenhour serving run EXP.yaml --scheme none -- tokenhour bench run EXP.yaml --scheme none
    """
    from tokenhour.serving.supervisor.foreground import run_beside, serve, stay  # light, but not needed for --help

    experiment = load_experiment(experiment_file)
    schemes = chosen_schemes(experiment, only, experiment_file, several=bool(command))
    worst = 0
    for scheme in schemes:
        with serve(experiment, scheme, results, Path.cwd()) as (running, server):
            announce(server)
            if command:
                path = RunDir.of(results, experiment, scheme).path / Server.file_name
                worst = max(worst, run_beside(running, command, path))
                continue
            invite(server)
            stay(running)
    sys.exit(worst)


@click.command("command")
@click.argument("experiment_file", metavar="EXP", type=click.Path(path_type=Path))
@click.option("--scheme", "only", help="One scheme instead of all that EXP names.")
@click.option("--results", default=Path("results"), type=click.Path(path_type=Path), show_default=True)
def show(experiment_file: Path, only: str | None, results: Path) -> None:
    """Print what `serving run` would start, and how much memory it takes; start nothing.

    The command goes to standard output, what it means for the memory to standard error.

    \b
    Example:
      tokenhour serving command configs/experiments/demo.yaml --scheme w8a8
    """
    import shlex

    from tokenhour.serving.preflight import prepare, say_memory

    experiment = load_experiment(experiment_file)
    for scheme in chosen_schemes(experiment, only, experiment_file, several=True):
        prepared = prepare(experiment, scheme, results, Path.cwd(), verify=False)
        launches = [*prepared.launches, *([prepared.router] if prepared.router else [])]
        for launch in launches:
            settings = [f"{key}={shlex.quote(value)}" for key, value in sorted(launch.environment.items())]
            # Secrets are named, never shown.
            settings += [f'{name}="${experiment.operations.api_key_env}"' for name in sorted(launch.secrets)]
            print(" ".join((*settings, shlex.join(launch.argv))))
        say_memory(prepared)


def chosen_schemes(experiment: Experiment, only: str | None, file: Path, *, several: bool) -> tuple[str, ...]:
    """Return the schemes that are meant: `only`, or all of them, or the first; InputError for one that EXP does not name."""
    if only is None:
        return experiment.schemes if several else experiment.schemes[:1]
    if only not in experiment.schemes:
        raise InputError(f"{only!r} is not among its schemes", where=str(file), remedy=nearest(only, experiment.schemes))
    return (only,)


def announce(server: Server) -> None:
    """Say that a server is ready."""
    start = server.cold_start
    if verdict := said(server.quality_gate, server.quality_reasons):
        print(f"   {server.scheme}: {verdict}", file=sys.stderr)
    print(
        f"   {server.model_id} is ready at {server.base_url} after {human_seconds(start.ready_s)} "
        f"({server.engine}, quantization {server.quantization or 'none'}); it says: {server.greeting!r}",
        file=sys.stderr,
    )


def invite(server: Server, stop: str = "Ctrl-C stops it") -> None:
    """Say how to talk to it; the key is named, not shown."""
    key = f' -H "Authorization: Bearer ${server.api_key_env}"' if server.api_key_env else ""
    print(
        f"   try: curl {server.base_url}/v1/chat/completions -H 'Content-Type: application/json'{key} "
        f'-d \'{{"model": "{server.model_id}", "messages": [{{"role": "user", "content": "Hello"}}]}}\'\n'
        f"   {stop}",
        file=sys.stderr,
    )
