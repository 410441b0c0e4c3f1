"""`tokenhour serving render`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tokenhour.contracts.config.experiment import Experiment, load_experiment
from tokenhour.contracts.io.atomic_io import write_text_atomic
from tokenhour.contracts.io.package_data import prices_folder
from tokenhour.machine.hardware import accelerator

_FILES = {"compose": "compose.yaml", "k8s": "kubernetes.yaml", "gateway": "litellm.yaml"}


@click.command("render")
@click.argument("what", type=click.Choice(sorted(_FILES)))
@click.argument("experiment_file", metavar="EXP", type=click.Path(path_type=Path))
@click.option("--scheme", "only", help="Which scheme; the first that EXP names when absent.")
@click.option("--results", default=Path("results"), type=click.Path(path_type=Path), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write the file into; standard output when absent.")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), help="What it will run on; EXP's, or this machine's when absent."
)
def render(what: str, experiment_file: Path, only: str | None, results: Path, out: Path | None, device: str | None) -> None:
    """Write EXP as files of a real fleet: compose, Kubernetes (k8s), or a LiteLLM gateway for the hybrid optimum.

    What was measured (cold start, price, capacity) is taken from the run's records; what is assumed says so.

    \b
    Examples:
      tokenhour serving render compose EXP.yaml --scheme w8a8 --out deploy/mine
      tokenhour serving render k8s EXP.yaml --device cuda | kubectl apply -f -
      tokenhour serving render gateway EXP.yaml --out deploy/mine
    """
    from tokenhour.serving.cli.run import chosen_schemes
    from tokenhour.serving.render.context import deployment
    from tokenhour.serving.render.documents import render_compose, render_kubernetes
    from tokenhour.serving.render.litellm import hybrid_of, render_gateway

    experiment = load_experiment(experiment_file)
    scheme = chosen_schemes(experiment, only, experiment_file, several=False)[0]
    _check_arguments(experiment, Path.cwd())
    found = deployment(experiment, scheme, results, prices_folder(), device or _device(experiment))
    if what == "gateway":
        text = render_gateway(found, hybrid_of(experiment, found.name, results))
    else:
        text = (render_compose if what == "compose" else render_kubernetes)(found)
    if out is None:
        print(text, end="")
        return
    write_text_atomic(out / _FILES[what], text)
    print(f"   {out / _FILES[what]}", file=sys.stderr)


def _check_arguments(experiment: Experiment, root: Path) -> None:
    """Hold `serving.engine_args` against the engine that is installed below `root`; say so where there is none."""
    from tokenhour.machine.lineage import engine_version
    from tokenhour.serving.launch.engine_args import check_installed

    if not experiment.serving.engine_args:
        return
    if engine_version(root) is None:
        print("   no engine is installed here: serving.engine_args were not checked", file=sys.stderr)
        return
    check_installed(experiment.serving.engine_args, root)


def _device(experiment: Experiment) -> str:
    return accelerator().kind if experiment.serving.device == "auto" else experiment.serving.device
