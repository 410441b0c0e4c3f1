"""`tokenhour report`."""

from __future__ import annotations

from pathlib import Path

import click

from contracts.experiment import load_experiment
from contracts.progress import Status
from contracts.rundir import RunDir


@click.command("report", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("experiment_file", metavar="EXP", type=click.Path(path_type=Path))
@click.option("--results", default=Path("results"), type=click.Path(path_type=Path), show_default=True)
@click.option("--allow-synthetic", is_flag=True, help="Show runs that are not real too, marked.")
def cli(experiment_file: Path, results: Path, allow_synthetic: bool) -> None:
    """Render the verdict of EXP as report.html, report.md and plots.

    \b
    Example:
      tokenhour report configs/experiments/demo.yaml
    """
    from breakeven.report import render

    experiment = load_experiment(experiment_file)
    with Status("report"):
        path = render(RunDir.of(results, experiment).path, allow_synthetic=allow_synthetic)
    print(f"report: {path.resolve()}")
