"""`tokenhour gpu-proof`: one command for a machine with a GPU, from its record to verdicts and a comparison."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tokenhour.contracts.config.experiment import Experiment, load_experiment
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.io.atomic_io import write_bytes_atomic
from tokenhour.contracts.io.package_data import prices_folder
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.standalone.gpu_benchmark import Proof, ProofStep
from tokenhour.frontdoor.gpu_benchmark import experiments as proof_plan
from tokenhour.frontdoor.gpu_benchmark import published_figures, time_budget
from tokenhour.frontdoor.gpu_benchmark.steps import NOT_APPLICABLE, Session, file_of, run
from tokenhour.frontdoor.gpu_benchmark.table import table
from tokenhour.frontdoor.pipeline import preflight
from tokenhour.machine.hardware import accelerator, accelerator_for, compute_capability
from tokenhour.machine.lineage import ENGINE_ENV, engine_version
from tokenhour.machine.run_folder import RunDir, now_utc

PROOF_TABLE = "proof.md"


@click.command("gpu-proof")
@click.option("--quick", is_flag=True, help="8 minutes: the chat mix alone, no compilation. For gates, not for headlines.")
@click.option(
    "--model", default=proof_plan.DEFAULT_MODEL, show_default=True, help="A model.source; shape:NAME has no weights."
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--instance", help="The machine's price row, as INSTANCE@CLOUD; default: the cheapest with one such GPU.")
@click.option("--minutes", type=float, help="Budget; default 20, 8 with --quick. Quantizing and bitsandbytes come on top.")
@click.option("--results", default=Path("results"), type=click.Path(path_type=Path), show_default=True)
def cli(quick: bool, model: str, device: str, instance: str | None, minutes: float | None, results: Path) -> None:
    """Measure a model in BF16, FP8, INT8 and INT4 on this machine's GPU, and say what each costs beside the APIs.

    Deadlines hold the minutes: a precision that does not fit is named as not measured for time. Started again, it goes on
    where it stopped. Exit 1 when something failed, was INVALID or did not fit the time.

    \b
    Examples:
      tokenhour gpu-proof --quick
      tokenhour gpu-proof --model ./Llama-3.1-8B-Instruct --instance H100_1x@nebius
      tokenhour gpu-proof --device cpu --model shape:tiny --quick --minutes 5
    """
    session = prepare(quick, model, device, instance, minutes, results)
    schemes, experiments = planned(session)
    try:
        run(session, schemes, experiments)
    finally:
        found = conclude(session, experiments)
    print(table(found, results))
    print(session.folder / PROOF_TABLE)
    if not found.complete:
        bad = "; ".join(f"{step.name} ({step.state})" for step in unfinished(found.steps)) or "it was stopped"
        raise RunFailedError(f"the proof is not complete: {bad}", remedy="run the same command to go on")


def prepare(quick: bool, model: str, device: str, instance: str | None, minutes: float | None, results: Path) -> Session:
    """Resolve what was asked for; InputError for a machine, a model or a price row that does not do."""
    from tokenhour.breakeven.prices.tables import load_tables
    from tokenhour.quantize.source.synthetic import is_shape, shape_of

    engine = engine_version(Path.cwd())
    if engine is None:
        raise InputError("vLLM is not installed", where=ENGINE_ENV, remedy="run `make setup` in the project's folder")
    here = accelerator()
    chosen = here.kind if device == "auto" else device
    if device == "auto" and chosen == "cpu":
        raise InputError(
            "no NVIDIA driver answers here: a GPU proof needs a GPU",
            where="nvidia-smi",
            remedy="run it on a machine with one, or try the way without: --device cpu --model shape:tiny",
        )
    if is_shape(model):
        shape_of(model)
    said = instance or ("c7i.large@aws" if chosen == "cpu" else None)
    row = proof_plan.instance_of(here.name, load_tables(prices_folder()).instances, said)
    wanted = proof_plan.Wanted(model, chosen, quick, row)
    budget = 60 * (minutes or proof_plan.MINUTES["quick" if quick else "full"])
    return Session(wanted, budget, results, engine)


def planned(session: Session) -> tuple[tuple[str, ...], tuple[Experiment, ...]]:
    """Leave out precisions without a kernel, share out the time, check prices and port, write the experiments."""
    wanted = session.wanted
    schemes, without = served(wanted)
    first = [scheme for scheme in schemes if scheme not in proof_plan.WITH_WEIGHTS]
    allotted = allot(session, first)
    # The minutes are those of the four; each of bitsandbytes' two gets as much as one of them, on top.
    session.budget_s += (len(schemes) - len(first)) * allotted.scheme_s
    experiments = tuple(
        proof_plan.experiment(wanted, mix, schemes, allotted.search, allotted.ready_timeout_s) for mix in wanted.mixes
    )
    for each in experiments:
        preflight(each, session.engine, session.results)
    session.folder.mkdir(parents=True, exist_ok=True)
    for each in experiments:
        write_bytes_atomic(file_of(session, each), each.to_json())
    RunDir(session.folder).open(experiments[0])
    for scheme, why in without:
        session.step(f"{scheme}", lambda why=why: (NOT_APPLICABLE, why))  # type: ignore[misc]
    probes = f"{allotted.search.max_probes} rates of at most {allotted.search.max_probe_s:.0f} s"
    print(f"   each measurement: saturated {allotted.search.saturation_s:.0f} s, {probes}", file=sys.stderr)
    return schemes, experiments


def allot(session: Session, schemes: Sequence[str]) -> time_budget.Allotment:
    """Share out the time, more of it for measuring where the generator's certificate is kept.

    A proof that was begun without one keeps the windows that it began with: with others nothing of it would be current.
    """
    from tokenhour.bench.calibration.calibrate import kept_at

    wanted, certified = session.wanted, kept_at(session.results, 1).is_file()
    found = time_budget.share_out(session.budget_s, proof_plan.work_of(wanted, schemes, certified=certified))
    with contextlib.suppress(InputError):
        other = time_budget.share_out(session.budget_s, proof_plan.work_of(wanted, schemes, certified=not certified))
        file = session.folder / f"{wanted.mixes[0].name}.json"
        if file.is_file() and load_experiment(file).bench.search == other.search:
            return other
    return found


def served(wanted: proof_plan.Wanted) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """Return the precisions that this device has kernels for, and (precision, reason) for the others."""
    from tokenhour.machine.kernel_support import refuse_without_kernel

    capability = compute_capability() if wanted.device == "cuda" else None
    good, without = [], []
    for scheme in proof_plan.schemes_for(wanted):
        try:
            refuse_without_kernel(scheme, wanted.device, capability)
            good.append(scheme)
        except InputError as error:
            without.append((scheme, error.what))
    if wanted.dummy:
        without += [(name, "it packs weights, and there are none") for name in proof_plan.WITH_WEIGHTS]
    return tuple(good), without


def unfinished(steps: Sequence[ProofStep]) -> list[ProofStep]:
    """Return the steps that should have been done and were not; what this machine cannot do is none of them."""
    return [step for step in steps if step.applicable and step.state in {"failed", "invalid", "skipped"}]


def conclude(session: Session, experiments: tuple[Experiment, ...]) -> Proof:
    """Write proof.json and proof.md."""
    wanted = session.wanted
    folders = [RunDir.of(session.results, each, scheme).path for each in experiments for scheme in each.schemes]
    runs = [run for run in folders if Summary.exists(run)]
    summaries = [Summary.read(run) for run in runs]
    found = Proof(
        name=wanted.name,
        model=wanted.model,
        weights="dummy" if wanted.dummy else "real",
        device="cuda" if wanted.device == "cuda" else "cpu",
        # One GPU serves, however many stand in the machine.
        accelerator=accelerator_for(wanted.device).model_copy(update={"count": 1}),
        quick=wanted.quick,
        budget_s=session.budget_s,
        spent_s=session.spent_s(),
        steps=tuple(session.steps),
        loaded=tuple(session.loaded),
        published=published_figures.deviations([s for s in summaries if s.validity == "VALID"]),
        runs=tuple(run.name for run in runs),
        complete=not unfinished(session.steps)
        and len(runs) == len(folders)
        and all(s.validity == "VALID" for s in summaries),
        inputs={f"summary:{run.name}": Summary.sha256_in(run) for run in runs},
        created_utc=now_utc(),
    )
    RunDir(session.folder).supersede(Proof.file_name, PROOF_TABLE)
    found.write(session.folder)
    write_bytes_atomic(session.folder / PROOF_TABLE, table(found, session.results).encode())
    return found
