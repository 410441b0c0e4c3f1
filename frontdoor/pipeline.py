"""`tokenhour run`: the stages one after another, each a process of its own, what is current reused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import click

from tokenhour.contracts.config.experiment import Experiment, load_experiment
from tokenhour.contracts.errors import InputError, OutOfTimeError, RunFailedError
from tokenhour.contracts.io.package_data import prices_folder
from tokenhour.contracts.units import human_seconds
from tokenhour.machine.kernel_support import refuse_bits_without_kernel, refuse_kv_without_kernel, refuse_without_kernel
from tokenhour.machine.lineage import ENGINE_ENV, NO_SUMMARY, engine_version, stale_summary
from tokenhour.machine.run_folder import RunDir

_STOP_GRACE_S = 40.0
# SIGINT and SIGTERM, as a shell writes them and as a parent sees them: somebody wants the work to stop.
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Step:
    """A stage to run: what it is called, its arguments after `tokenhour`, and the scheme that it is for."""

    title: str
    arguments: tuple[str, ...]
    scheme: str | None = None


def steps(file: str, experiment: Experiment, results: str) -> Iterator[Step]:
    """List the steps of an experiment in order."""
    to = ("--results", results)
    yield Step(f"quantize: {', '.join(experiment.schemes)}", ("quantize", "run", file, *to))
    for scheme in experiment.schemes:
        chosen = (file, "--scheme", scheme, *to)
        bench = (sys.executable, "-m", "tokenhour", "bench", "run", *chosen)
        yield Step(f"serve and measure: {scheme}", ("serving", "run", *chosen, "--", *bench), scheme)
    yield Step("break-even", ("breakeven", "solve", file, *to))
    yield Step("report", ("report", file, *to))


def run_step(arguments: tuple[str, ...], limit_s: float | None = None, stop_s: float = _STOP_GRACE_S) -> int:
    """Run `tokenhour ARGUMENTS` as a child that dies with us; SIGTERM is passed on, and none outlives this call.

    After `limit_s` the child gets SIGTERM, after `stop_s` more SIGKILL, and OutOfTimeError is raised.
    """
    environment = {**os.environ, "TOKENHOUR_PARENT_PID": str(os.getpid())}
    child = subprocess.Popen([sys.executable, "-m", "tokenhour", *arguments], env=environment)

    def pass_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        return child.wait(limit_s)
    except subprocess.TimeoutExpired as error:
        child.terminate()
        _reap(child, stop_s)
        raise OutOfTimeError(
            f"{' '.join(arguments[:2])} was ended after {human_seconds(limit_s or 0.0)}",
            remedy="run the same command to go on",
        ) from error
    except KeyboardInterrupt:
        # The terminal sent SIGINT to the child as well: it is stopping what it started.
        _reap(child, _STOP_GRACE_S)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _reap(child: subprocess.Popen[bytes], grace_s: float) -> None:
    try:
        child.wait(grace_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def preflight(experiment: Experiment, engine: str, results: Path) -> None:
    """Find what would stop a later stage before the first one starts: prices, kernels, keys, arguments, the port.

    Raises InputError.
    """
    from tokenhour.breakeven.stage import preflight as check_prices
    from tokenhour.serving.launch.engine_env import check_exposure, choose_port, device_of

    check_prices(experiment, prices_folder())
    device = device_of(experiment, engine)
    for scheme in experiment.schemes:
        refuse_without_kernel(scheme, device)
        refuse_bits_without_kernel(experiment.quantize, scheme, device)
    refuse_kv_without_kernel(experiment.serving.kv_cache_dtype, device)
    check_exposure(experiment)
    if experiment.serving.engine_args:
        from tokenhour.serving.launch.engine_args import check_installed

        check_installed(experiment.serving.engine_args, Path.cwd())
    if any(stale_summary(RunDir.of(results, experiment, scheme).path, experiment, engine) for scheme in experiment.schemes):
        choose_port(experiment.serving.host, experiment.serving.port)


@click.command("run")
@click.argument("experiment_file", metavar="EXP", type=click.Path(path_type=Path))
@click.option("--results", default="results", show_default=True, help="Folder of the run folders.")
@click.option("--fresh", is_flag=True, help="Measure again even where a current measurement exists.")
def cli(experiment_file: Path, results: str, fresh: bool) -> None:
    """Run every stage of EXP; what exists and whose recorded inputs still match is reused.

    \b
    Example:
      tokenhour run configs/experiments/demo.yaml
    """
    experiment = load_experiment(experiment_file)
    engine = engine_version(Path.cwd())
    if engine is None:
        raise InputError("vLLM is not installed", where=ENGINE_ENV, remedy="run `make setup` in the project's folder")
    preflight(experiment, engine, Path(results))
    planned = list(steps(str(experiment_file), experiment, results))
    began = time.monotonic()
    failed: list[str] = []
    for number, step in enumerate(planned, 1):
        head = f"[{number}/{len(planned)}] {step.title}"
        run = RunDir.of(Path(results), experiment, step.scheme)
        if step.scheme and not fresh and not (why := stale_summary(run.path, experiment, engine)):
            run.note("bench", "reused")
            _say(f"{head}: reused {run.path}/summary.json (all of its inputs still match)")
            continue
        reason = f" (measured again: {', '.join(why)})" if step.scheme and not fresh and why != [NO_SUMMARY] else ""
        _say(f"{head}{reason}  [{human_seconds(time.monotonic() - began)} so far]")
        code = run_step(step.arguments)
        if code == 2 or (code and not step.scheme):
            sys.exit(code if code > 0 else 128 - code)
        if code < 0 or code > 128:
            said = f"{step.title} was stopped by signal {-code if code < 0 else code - 128}"
            raise RunFailedError(said, remedy="run the same command to go on")
        if code:
            failed.append(step.title)
    _say(f"all stages ran in {human_seconds(time.monotonic() - began)}")
    if failed:
        raise RunFailedError(f"not all of it is valid: {'; '.join(failed)}", remedy="see the reasons above")


def _say(line: str) -> None:
    print(f"\n== {line}", file=sys.stderr, flush=True)
