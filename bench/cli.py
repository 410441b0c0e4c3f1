"""`tokenhour bench`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from bench.validity import DISTURBANCES
from contracts.errors import InputError, RunFailedError, nearest
from contracts.experiment import load_experiment
from contracts.run import Summary, TokensPerHour
from contracts.rundir import RunDir
from contracts.server import Server
from contracts.units import human_count


@click.group("bench", context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Measure tokens per accelerator-hour at the SLO.

    \b
    Examples:
      tokenhour serving run EXP.yaml -- tokenhour bench run EXP.yaml
      tokenhour bench summarize results/demo-w8a8
    """


@cli.command("run")
@click.argument("experiment_file", metavar="EXP", type=click.Path(path_type=Path))
@click.option("--scheme", "only", help="Which scheme is being served; default: that of the running server.")
@click.option("--results", default=Path("results"), type=click.Path(path_type=Path), show_default=True)
def run(experiment_file: Path, only: str | None, results: Path) -> None:
    """Search the SLO capacity of the server that `serving run` has started. Exit 1 when the run is INVALID.

    \b
    Example:
      tokenhour serving run EXP.yaml --scheme w8a8 -- tokenhour bench run EXP.yaml --scheme w8a8
    """
    from bench.run import run as measure
    from bench.target import check_alive

    experiment = load_experiment(experiment_file)
    scheme = only or _served_scheme(experiment.schemes)
    if scheme not in experiment.schemes:
        raise InputError(
            f"{scheme!r} is not among its schemes", where=str(experiment_file), remedy=nearest(scheme, experiment.schemes)
        )
    folder = RunDir.of(results, experiment, scheme)
    server = Server.read(folder.path)
    check_alive(server)
    folder.open(experiment)
    folder.note("bench", "started")
    try:
        summary = measure(experiment, server, folder)
        if disturbed(summary):
            said = ", ".join(r.rule for r in summary.reasons)
            print(f"   something else used the machine ({said}): measuring once more", file=sys.stderr)
            summary = measure(experiment, server, folder)
    except BaseException as error:
        folder.note("bench", "failed", str(error)[:300])
        raise
    folder.note("bench", "interrupted" if "interrupted" in str(summary.reasons) else "done", summary.validity)
    _print(summary, folder.path)


@cli.command("summarize")
@click.argument("folder", type=click.Path(path_type=Path))
def summarize(folder: Path) -> None:
    """Derive the summary of a run FOLDER again from its raw records; an older, different one is moved aside.

    \b
    Example:
      tokenhour bench summarize results/demo-w8a8
    """
    from bench.conclude import derive

    run_dir = RunDir(folder)
    summary = derive(run_dir)
    if Summary.exists(folder) and (folder / Summary.file_name).read_bytes() == summary.to_json():
        print(f"{folder}: the same summary as before")
    else:
        run_dir.supersede(Summary.file_name)
        summary.write(folder)
    _print(summary, folder)


def disturbed(summary: Summary) -> bool:
    """Tell whether a run is INVALID only for what another program on the machine can cause."""
    return bool(summary.reasons) and {r.rule for r in summary.reasons} <= DISTURBANCES


def _served_scheme(schemes: tuple[str, ...]) -> str:
    """Take the scheme from the server that runs us, else the experiment's first."""
    path = os.environ.get("TOKENHOUR_SERVER")
    return Server.read(Path(path)).scheme if path else schemes[0]


def _print(summary: Summary, folder: Path) -> None:
    print(f"{summary.run}: {summary.validity}; {_figures('peak', summary.peak)}")
    if summary.at_slo:
        failing = f", fails at {summary.lowest_failing_rps:.2f}" if summary.lowest_failing_rps else ""
        print(f"  {_figures('at the SLO', summary.at_slo)} ({summary.highest_passing_rps:.2f} requests/s{failing})")
    for warning in summary.warnings:
        print(f"  note: {warning}")
    print(f"  {folder / Summary.file_name}")
    if summary.validity == "INVALID":
        said = "; ".join(f"{r.rule}: {r.measured}, limit {r.limit}" for r in summary.reasons)
        sys.stdout.flush()
        raise RunFailedError(f"the run is INVALID: {said}", where=str(folder), remedy="remove the cause and measure again")


def _figures(name: str, found: TokensPerHour) -> str:
    out, taken = found.output_tokens_per_hour, found.input_tokens_per_hour
    spread = f" [{human_count(out.low)}-{human_count(out.high)}]" if out.low is not None and out.high is not None else ""
    return f"{name}: {human_count(out.value)}{spread} output, {human_count(taken.value)} input tokens per accelerator-hour"
