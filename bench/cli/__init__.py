"""`tokenhour bench`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tokenhour.bench.cli.tools import calibrate, import_log, telemetry, worker
from tokenhour.bench.loadgen.worker_count import WEB_UI_PORT
from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.contracts.errors import InputError, RunFailedError, nearest
from tokenhour.contracts.io.yaml_loader import validate_yaml
from tokenhour.contracts.records.endpoint import Load
from tokenhour.contracts.records.probe import Probes
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.records.summary import Summary, TokensPerHour
from tokenhour.contracts.units import human_count
from tokenhour.machine.progress import Status
from tokenhour.machine.run_folder import RunDir

_TARGET_OPTIONS = (
    click.argument("experiment_file", metavar="[EXP]", required=False, type=click.Path(path_type=Path)),
    click.option("--scheme", "only", help="Which scheme is being served; default: that of the running server."),
    click.option("--url", help="Measure this server; API key in OPENAI_API_KEY."),
    click.option("--model", help="The model to ask for."),
    click.option("--workload", "load_file", type=click.Path(path_type=Path), help="A load file (docs/load.md)."),
    click.option(
        "--out", "--results", "out", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
        help="EXP: folder of the run folders. --url: the run folder itself.",
    ),
    click.option("--workers", default="1", show_default=True, help="Load processes; N@HOST:PORT waits for N machines."),
)  # fmt: skip
_GROUPS = {
    "The server of an experiment (EXP)": ("only",),
    "Any OpenAI-compatible server": ("url", "model", "load_file"),
    "Either": ("out", "workers", "web_ui", "_click_default_help"),
}


class Grouped(click.Command):
    """A command whose help lists its options by what they are for."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section a group."""
        by_name = {found.name: found.get_help_record(ctx) for found in self.get_params(ctx)}
        for title, names in _GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([record for name in names if (record := by_name.get(name))])


def _target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_TARGET_OPTIONS):
        command = option(command)
    return command


@click.group("bench", context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Measure tokens per accelerator-hour at the SLO.

    \b
    Examples:
      tokenhour serving run EXP.yaml -- tokenhour bench run EXP.yaml
      tokenhour bench run --url http://127.0.0.1:8000 --model NAME --workload load.yaml --out results/mine
      tokenhour bench calibrate
      tokenhour bench import-log requests.csv --out traffic
      tokenhour bench summarize results/demo-w8a8
    """


@cli.command("run", cls=Grouped)
@_target_options
@click.option("--web-ui", type=int, metavar="PORT", help="Show Locust's web page on this port of 127.0.0.1.")
def run(web_ui: int | None, **where: Any) -> None:
    """Measure a server: the rates that the load names, else its SLO capacity. Exit 1 when the run is INVALID.

    \b
    Examples:
      tokenhour serving run EXP.yaml --scheme w8a8 -- tokenhour bench run EXP.yaml --scheme w8a8
      tokenhour bench run --url https://api.example.com --model NAME --workload load.yaml --out results/mine
    """
    if web_ui is not None:
        os.environ[WEB_UI_PORT] = str(web_ui)
    _measure(None, **where)


@cli.command("search", cls=Grouped)
@_target_options
def search(**where: Any) -> None:
    """Search the SLO capacity: the highest rate that meets the objective and is stable.

    \b
    Example:
      tokenhour bench search --url http://127.0.0.1:8000 --model NAME --workload load.yaml --out results/mine
    """
    _measure("search", **where)


@cli.command("sweep", cls=Grouped)
@_target_options
def sweep(**where: Any) -> None:
    """Measure a load curve: ten rates up to saturation, or those that the load names.

    \b
    Example:
      tokenhour serving run EXP.yaml --scheme w8a8 -- tokenhour bench sweep EXP.yaml --scheme w8a8
    """
    _measure("sweep", **where)


@cli.command("summarize")
@click.argument("folder", type=click.Path(path_type=Path))
def summarize(folder: Path) -> None:
    """Derive the summary of a run FOLDER again from its raw records; an older, different one is moved aside.

    \b
    Example:
      tokenhour bench summarize results/demo-w8a8
    """
    from tokenhour.bench.summary.finalize import derive

    run_dir = RunDir(folder)
    summary = derive(run_dir)
    if Summary.exists(folder) and (folder / Summary.file_name).read_bytes() == summary.to_json():
        print(f"{folder}: the same summary as before")
    else:
        run_dir.supersede(Summary.file_name)
        summary.write(folder)
    _print(summary, folder)


def _measure(
    kind: Any,
    experiment_file: Path | None,
    only: str | None,
    out: Path,
    url: str | None,
    model: str | None,
    load_file: Path | None,
    workers: str,
) -> None:
    from tokenhour.bench.loadgen.worker_count import Workers

    crew = Workers.parse(workers)
    if (experiment_file is None) == (url is None):
        raise InputError("name either an experiment or --url", where="bench", remedy="see `tokenhour bench run --help`")
    if experiment_file is not None:
        _measure_experiment(experiment_file, only, out, kind, crew)
    elif url is not None:
        _measure_url(url, model, load_file, out, kind, crew)


def _measure_experiment(file: Path, only: str | None, results: Path, kind: Any, crew: Any) -> None:
    from tokenhour.bench.statistics.rate_search import check_searchable
    from tokenhour.bench.target.discovery import check_alive, of_server

    experiment = load_experiment(file)
    if kind is not None:
        check_searchable(experiment.bench, kind)
    scheme = only or _served_scheme(experiment.schemes)
    if scheme not in experiment.schemes:
        raise InputError(f"{scheme!r} is not among its schemes", where=str(file), remedy=nearest(scheme, experiment.schemes))
    folder = RunDir.of(results, experiment, scheme)
    server = Server.read(folder.path)
    check_alive(server)
    folder.open(experiment)
    _run_noted(of_server(experiment, server), folder, kind, crew, results)


def _measure_url(url: str, model: str | None, load_file: Path | None, out: Path, kind: Any, crew: Any) -> None:
    from tokenhour.bench.statistics.rate_search import check_searchable
    from tokenhour.bench.target.discovery import of_endpoint, probe_endpoint
    from tokenhour.bench.workload import sampling

    if model is None or load_file is None:
        raise InputError("--url wants --model and --workload", where="bench", remedy="see `tokenhour bench run --help`")
    load = validate_yaml(Load, load_file)
    if kind is not None:
        check_searchable(load, kind)
    sampling.check(load)
    found = probe_endpoint(url, model, load)
    folder = RunDir(out)
    folder.open_load(load)
    folder.supersede(found.file_name)
    found.write(out)
    for line in found.degraded:
        print(f"   note: {line}", file=sys.stderr)
    _run_noted(of_endpoint(load, found), folder, kind, crew, out.parent)


def _run_noted(target: Any, folder: RunDir, kind: Any, crew: Any, results: Path) -> None:
    from tokenhour.bench.run import measure

    folder.note("bench", "started")
    try:
        summary = measure(target, folder, kind, crew, results)
    except BaseException as error:
        folder.note("bench", "failed", str(error)[:300])
        raise
    by_user = Probes.read(folder.path).interrupted_by == "user"
    folder.note("bench", "interrupted" if by_user else "done", summary.validity)
    _draw_apart(folder.path)
    _print(summary, folder.path)


@cli.command("plot")
@click.argument("folder", type=click.Path(path_type=Path))
def plot(folder: Path) -> None:
    """Draw the plots of a run FOLDER: throughput and latency, distributions, timeline, arrivals against plan.

    \b
    Example:
      tokenhour bench plot results/demo-w8a8
    """
    for path in _draw(folder):
        print(path)


def _draw(folder: Path) -> list[Path]:
    from tokenhour.bench.plots import draw_run

    with Status("plots"):
        return draw_run(folder)


def _draw_apart(folder: Path) -> None:
    """Draw in a process of its own: what measured holds a row a request, and pictures want as much memory again."""
    words = [sys.executable, "-m", "tokenhour.bench", "plot", str(folder)]
    done = subprocess.run(words, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        print(f"   the plots were not drawn; again with: tokenhour bench plot {folder}", file=sys.stderr)


def _served_scheme(schemes: tuple[str, ...]) -> str:
    """Take the scheme from the server that runs us, else the experiment's first."""
    path = os.environ.get("TOKENHOUR_SERVER")
    return Server.read(Path(path)).scheme if path else schemes[0]


def _print(summary: Summary, folder: Path) -> None:
    trust = " (generator uncertified)" if summary.uncertified else ""
    print(f"{summary.run}: {summary.validity}{trust}; {_figures('peak', summary.peak)}")
    if summary.at_slo:
        failing = f", fails at {summary.lowest_failing_rps:.2f}" if summary.lowest_failing_rps else ""
        print(f"  {_figures('at the SLO', summary.at_slo)} ({summary.highest_passing_rps:.2f} requests/s{failing})")
    count = summary.accelerator.count
    minutes = summary.measuring_s / 60
    times = f" ({minutes:.1f} minutes x {count})" if count > 1 else ""
    print(f"  measuring took {minutes * count:.1f} accelerator-minutes{times}")
    if summary.quality_gate != "none":
        print(f"  quality gate {summary.quality_gate}")
    for warning in summary.warnings:
        print(f"  note: {warning}")
    print(f"  {folder / Summary.file_name}")
    if summary.validity == "INVALID":
        said = "; ".join(
            f"{r.rule}: {r.measured}, limit {r.limit}{f' ({r.explanation})' if r.explanation else ''}"
            for r in summary.reasons
        )
        sys.stdout.flush()
        remedies = "; ".join(dict.fromkeys(r.remedy for r in summary.reasons if r.remedy))
        raise RunFailedError(
            f"the run is INVALID: {said}", where=str(folder), remedy=remedies or "remove the cause and measure again"
        )


def _figures(name: str, found: TokensPerHour) -> str:
    out, taken = found.output_tokens_per_hour, found.input_tokens_per_hour
    spread = f" [{human_count(out.low)}-{human_count(out.high)}]" if out.low is not None and out.high is not None else ""
    return f"{name}: {human_count(out.value)}{spread} output, {human_count(taken.value)} input tokens per accelerator-hour"


for tool in (calibrate, import_log, telemetry, worker):
    cli.add_command(tool)
