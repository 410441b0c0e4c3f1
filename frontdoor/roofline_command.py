"""`tokenhour roofline`: how far from the hardware's measured limits each run was."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tokenhour.bench.roofline.utilization import ServedModel, model_cost, points, rates_for
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.environment import machine_sha256
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.standalone.roofline import MachineRates, Roofline
from tokenhour.contracts.units import human_bytes
from tokenhour.machine.run_folder import RunDir, now_utc


@click.command("roofline")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--rates", "rates_file", type=click.Path(path_type=Path), help="A machine_rates.json to use; else measure.")
def cli(runs: tuple[Path, ...], rates_file: Path | None) -> None:
    """Put the model-bandwidth and model-FLOP utilization of each RUN folder beside its result.

    The copy bandwidth and the matrix rate are measured here and now (about 10 s, nothing else on the accelerator), never
    taken from a datasheet. Each RUN gets machine_rates.json and roofline.json.

    \b
    Examples:
      tokenhour roofline results/demo-none results/demo-w8a8
      tokenhour roofline results/demo-none --rates results/demo-w8a8/machine_rates.json
    """
    for run in runs:
        Summary.read(run)
    rates = MachineRates.read(rates_file) if rates_file else measured(Summary.read(runs[0]).accelerator.kind)
    for run in runs:
        found = keep(run, rates)
        print(f"{found.run}: {found.sentence()}")


def measured(device: str) -> MachineRates:
    """Measure this machine."""
    from tokenhour.bench.roofline.machine_rates import measure

    found = measure("cuda" if device == "cuda" else "cpu")
    said = ", ".join(f"{kind} {rate.value / 1e12:.3g} T/s" for kind, rate in found.matrix_ops_per_s.items())
    print(f"   copies {human_bytes(found.copy_bytes_per_s.value)}/s, multiplies {said}", file=sys.stderr)
    return found


def keep(run: Path, rates: MachineRates) -> Roofline:
    """Derive the roofline of a run folder and write it there beside the rates; what stood there is moved aside."""
    from tokenhour.serving.launch.memory_budget import kv_bytes_per_token, model_config

    summary, checkpoint = Summary.read(run), Checkpoint.read(run)
    server, experiment = Server.read(run), Experiment.read(run)
    refuse_other_machine(run, summary, rates)
    serving = experiment.serving
    config = model_config(Path(checkpoint.path))
    if not config:
        raise InputError(
            "the checkpoint has no config.json here, and a roofline wants the model's shape",
            where=checkpoint.path,
            remedy="bring the checkpoint back to that folder",
        )
    cost, kv = model_cost(config), kv_bytes_per_token(config, serving.kv_cache_dtype)
    if cost is None or kv is None:
        raise InputError(
            "the model's config.json is not that of a dense decoder: no roofline is known for it",
            where=checkpoint.path,
            remedy="leave this run out",
        )
    served = ServedModel(
        memory_bytes=checkpoint.memory_bytes or checkpoint.weight_bytes,
        kv_bytes_per_token=kv,
        copies=serving.replicas * serving.data_parallel_size,
        accelerators=server.accelerators,
    )
    kind, chosen = rates_for(summary.scheme, rates)
    folder = RunDir(run)
    folder.supersede(MachineRates.file_name, Roofline.file_name)
    rates.write(run)
    linear = 2.0 * cost.layer_parameters
    found = Roofline(
        run=summary.run,
        scheme=summary.scheme,
        model_name=summary.model_name,
        accelerators=served.accelerators,
        copy_bytes_per_s=chosen.copy_bytes_per_s,
        matrix_type=kind,
        matrix_ops_per_s=chosen.matrix_ops_per_s,
        weight_bytes_per_step=cost.weight_bytes_per_step(served.memory_bytes),
        kv_bytes_per_token=kv,
        ops_per_prompt_token=linear,
        ops_per_output_token=linear + 2.0 * cost.vocabulary_parameters,
        points=points(summary, cost, served, chosen),
        synthetic=summary.synthetic,
        inputs={record.file_name: record.sha256_in(run) for record in (Summary, Checkpoint, MachineRates)},
        created_utc=now_utc(),
    )
    found.write(run)
    return found


def refuse_other_machine(run: Path, summary: Summary, rates: MachineRates) -> None:
    """Raise InputError when the rates are another machine's: a utilization of another GPU says nothing."""
    if machine_sha256("", 0, summary.accelerator) != machine_sha256("", 0, rates.accelerator):
        raise InputError(
            f"the run is of {summary.accelerator.name}, the rates are of {rates.accelerator.name}",
            where=str(run),
            remedy="measure the rates on the run's own machine",
        )
