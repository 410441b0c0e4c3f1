"""`tokenhour report`."""

from __future__ import annotations

from pathlib import Path

import click

from tokenhour.machine.progress import Status


@click.command("report", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("experiment_file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--results", default=Path("results"), type=click.Path(path_type=Path), show_default=True)
@click.option("--allow-synthetic", is_flag=True, help="Show runs that are not real too, marked.")
def cli(experiment_file: Path, results: Path, allow_synthetic: bool) -> None:
    """Render the verdict of FILE (an experiment or a scenario) as a page, Markdown and plots.

    \b
    Examples:
      tokenhour report configs/experiments/demo.yaml
      tokenhour report configs/scenarios/support-bot.yaml
    """
    from tokenhour.breakeven.report.render import render
    from tokenhour.breakeven.stage import load

    asked = load(experiment_file)
    with Status("report"):
        path = render(results / asked.name, allow_synthetic=allow_synthetic)
    print(f"report: {path.resolve()}")
