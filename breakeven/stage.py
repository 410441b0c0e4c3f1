"""The stage's shell: find summaries and prices, reuse a current verdict, write a new one."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tokenhour.breakeven.inputs import capacity, idle_savings, names
from tokenhour.breakeven.inputs.demand import read as read_demand
from tokenhour.breakeven.inputs.problem import Note, Question
from tokenhour.breakeven.prices.tables import TABLE_FILES, Tables, hourly_usd, load_tables
from tokenhour.breakeven.verdict import verdict
from tokenhour.contracts import input_keys
from tokenhour.contracts.config.economics import EconomicsSpec
from tokenhour.contracts.config.experiment import Experiment, load_experiment
from tokenhour.contracts.config.model_quantize import QualityGate
from tokenhour.contracts.config.scenario import Scenario, load_scenario
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.io.atomic_io import sha256_file, sha256_of
from tokenhour.contracts.io.package_data import example
from tokenhour.contracts.io.yaml_loader import load_yaml
from tokenhour.contracts.records.quality_gate import GateVerdict, judge
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import IdleMeasured, Verdict
from tokenhour.contracts.standalone.idle import IdleRecord
from tokenhour.machine.run_folder import RunDir, now_utc

KINDS = ("experiment", "scenario")
Asked = Experiment | Scenario


def load(path: Path) -> Asked:
    """Read an experiment or a scenario, told apart by `record:`; InputError names file, line, field, value and remedy."""
    path = example(path)
    data, _ = load_yaml(path)
    kind = data.get("record", "experiment") if isinstance(data, dict) else "experiment"
    if kind not in KINDS:
        raise InputError(f"record = {kind!r}", where=str(path), remedy=f"say one of {' and '.join(KINDS)}")
    return load_scenario(path) if kind == "scenario" else load_experiment(path)


def run_folders(asked: Asked, results: Path) -> list[Path]:
    """Return the folders of the measured runs that a question stands on."""
    if isinstance(asked, Experiment):
        return [RunDir.of(results, asked, scheme).path for scheme in asked.schemes]
    paths = [Path(name) for name in asked.summaries]
    return [path.parent if path.suffix == ".json" else path for path in paths]


def read_summaries(asked: Asked, results: Path) -> list[Summary]:
    """Read the summary of every run; InputError names the one that is missing and how to get it."""
    folders = run_folders(asked, results)
    called = asked.schemes if isinstance(asked, Experiment) else [folder.name for folder in folders]
    for name, folder in zip(called, folders, strict=True):
        if not Summary.exists(folder):
            remedy = (
                f"make bench EXP=... SCHEME={name}"
                if isinstance(asked, Experiment)
                else "name a measured run's folder below results/, or state an `assumed` capacity"
            )
            raise InputError(f"{name} has not been measured yet", where=str(folder), remedy=remedy)
    return [Summary.read(folder) for folder in folders]


def refuse_invalid(summaries: Sequence[Summary], *, allow: bool) -> None:
    """Raise RunFailedError when every run is INVALID and that was not allowed. One of several is left out and named."""
    invalid = [s for s in summaries if s.validity == "INVALID"]
    if invalid and len(invalid) == len(summaries) and not allow:
        said = "; ".join(f"{s.run} ({', '.join(r.rule for r in s.reasons)})" for s in invalid)
        raise RunFailedError(
            f"an INVALID measurement gives no dollar figure: {said}",
            remedy="measure again, or say --allow-invalid and see it in red",
        )


def price_date(spec: EconomicsSpec, today: dt.date) -> dt.date:
    """Return the date whose prices count; InputError for one that is none."""
    said = spec.on_date
    if said is None:
        return today
    try:
        return dt.date.fromisoformat(said)
    except ValueError as error:
        raise InputError(f"{said!r} is no date", where="economics.on_date", remedy="write it as 2026-11-24") from error


def today_utc() -> dt.date:
    """Return today's date."""
    return dt.datetime.now(dt.UTC).date()


def preflight(experiment: Experiment, prices: Path) -> None:
    """Look every price up that the experiment will need, so that a wrong name is found before the hours of measuring."""
    spec = experiment.economics
    on = price_date(spec, today_utc())
    asks = Question(experiment.name, spec, (), read_demand(spec.profile), load_tables(prices), on)
    if row := asks.instance():
        hourly_usd(row, spec.purchase, spec.rates)
    asks.rows()


def question(
    asked: Asked, summaries: Sequence[Summary], results: Path, tables: Tables, on: dt.date, *, allow_invalid: bool = False
) -> Question:
    """Gather what the solver needs. An INVALID run has no capacity in it, and so no figure, unless that is allowed."""
    folders = run_folders(asked, results)
    gates = [judged(_gate(asked, folder), s) for folder, s in zip(folders, summaries, strict=True)]
    shown = [Path("results", s.run) for s in summaries] if isinstance(asked, Experiment) else folders
    plants = [
        replace(
            capacity.measured(s, str(folder / Summary.file_name), allow_invalid=allow_invalid),
            quality_gate=gate,
        )
        for s, folder, gate in zip(summaries, shown, gates, strict=True)
    ]
    if isinstance(asked, Scenario) and asked.assumed:
        plants = [capacity.assumed(asked.assumed, asked.assumed.name)]
    resting = idle_files(asked, folders, len(plants))
    plants = [
        replace(plant, idle=_idle(file, results)) if file else plant for plant, file in zip(plants, resting, strict=True)
    ]
    return Question(
        name=asked.name,
        economics=asked.economics,
        plants=tuple(plants),
        demand=read_demand(asked.economics.profile),
        tables=tables,
        on=on,
        notes=tuple(_notes(summaries, gates)),
        inputs=_inputs(asked, folders, results, tables)
        | {input_keys.IDLE.key(_beside(file, results)): sha256_file(file) for file in resting if file},
    )


def idle_files(asked: Asked, folders: Sequence[Path], plants: int) -> list[Path | None]:
    """Return the idle record of each run: the one that the lever idle_gpus names, else the one beside the run's summary."""
    named = next((lever.record for lever in asked.economics.levers if lever.record), None)
    if named is None:
        found = [folder / IdleRecord.file_name for folder in folders]
        return [file if file.is_file() else None for file in found] or [None] * plants
    path = Path(named)
    file = path / IdleRecord.file_name if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"no idle record at {named}",
            where="economics.levers: record",
            remedy="name an idle.json that `serving` with operations.idle wrote, or its folder; or take it out",
        )
    return [file] * plants


def _idle(file: Path, results: Path) -> IdleMeasured:
    return idle_savings.measured(
        IdleRecord.read(file), f"results/{_beside(file, results)}" if _below(file, results) else str(file)
    )


def _below(file: Path, results: Path) -> bool:
    return results.resolve() in file.resolve().parents


def _gate(asked: Asked, folder: Path) -> QualityGate:
    """Return the gate that judges a run: that of the question's experiment, for a scenario that of the run's own."""
    if isinstance(asked, Experiment):
        return asked.quantize.gate
    return Experiment.read(folder).quantize.gate if Experiment.exists(folder) else QualityGate()


def judged(gate: QualityGate, summary: Summary) -> GateVerdict:
    """Judge what a precision lost by the gate at hand; what the summary recorded of an older gate is not read."""
    return judge(gate, summary.mean_kl_divergence, summary.perplexity_ratio)[0]


def _notes(summaries: Sequence[Summary], gates: Sequence[GateVerdict]) -> Iterator[Note]:
    """Say what the measurements say about themselves."""
    of = {s.run: (names.capacity(s.run),) for s in summaries}
    for s in summaries:
        if s.validity == "INVALID":
            yield Note("invalid", f"{s.run} is INVALID: {'; '.join(r.rule for r in s.reasons)}", of[s.run])
    for s, gate in zip(summaries, gates, strict=True):
        if gate == "FAIL":
            yield Note("quality_gate", f"{s.run} failed its quality gate", of[s.run])
    for s in summaries:
        yield from (Note("measurement", f"{s.run}: {warning}", of[s.run]) for warning in s.slo_warnings())
    for s in summaries:
        if s.at_slo is not None and s.lowest_failing_rps is None:
            said = f"{s.run}: every tested rate passed, so its capacity is a lower bound"
            yield Note("lower_bound", said, of[s.run])
    for s in summaries:
        if s.synthetic:
            yield Note("synthetic", f"{s.run} is synthetic: {', '.join(s.synthetic)}", of[s.run])


def answer(asked: Asked, results: Path, prices: Path, *, allow_invalid: bool) -> Verdict:
    """Solve without writing anything."""
    return verdict(
        _asks(asked, results, prices, allow_invalid=allow_invalid), created_utc=now_utc(), allowed_invalid=allow_invalid
    )


def _asks(asked: Asked, results: Path, prices: Path, *, allow_invalid: bool) -> Question:
    summaries = read_summaries(asked, results)
    refuse_invalid(summaries, allow=allow_invalid)
    on = price_date(asked.economics, today_utc())
    return question(asked, summaries, results, load_tables(prices), on, allow_invalid=allow_invalid)


def run(asked: Asked, results: Path, prices: Path, *, allow_invalid: bool) -> tuple[Verdict, bool]:
    """Solve, or reuse the verdict that stands when all of its inputs are the same; return (verdict, reused)."""
    asks = _asks(asked, results, prices, allow_invalid=allow_invalid)
    folder = RunDir(results / asked.name)
    if Verdict.exists(folder.path):
        standing = Verdict.read(folder.path)
        same = (standing.version, standing.inputs, standing.on_date, standing.allowed_invalid)
        if same == (2, dict(asks.inputs), asks.on, allow_invalid):
            folder.note("breakeven", "reused")
            return standing, True
    found = verdict(asks, created_utc=now_utc(), allowed_invalid=allow_invalid)
    _keep(asked, found, folder)
    return found, False


def _keep(asked: Asked, found: Verdict, folder: RunDir) -> None:
    if isinstance(asked, Experiment):
        folder.open(asked)
    else:
        standing = folder.path / Scenario.file_name
        if standing.is_file() and standing.read_bytes() != asked.to_json():
            folder.supersede(Scenario.file_name)
        if not standing.is_file():
            asked.write(folder.path)
    folder.supersede(Verdict.file_name)
    found.write(folder.path)
    folder.note("breakeven", "done")


def _inputs(asked: Asked, folders: Sequence[Path], results: Path, tables: Tables) -> dict[str, str]:
    profile = asked.economics.profile
    file = (profile.file or profile.trace) if profile else None
    found = {input_keys.SUMMARY.key(_beside(path, results)): Summary.sha256_in(path) for path in folders}
    if isinstance(asked, Experiment) and asked.quantize.gate != QualityGate():
        found[input_keys.EXPERIMENT.key("gate")] = sha256_of(asked.quantize.gate.model_dump(mode="json"))
    if file:
        found[input_keys.PROFILE.key(file)] = sha256_file(Path(file))
    if isinstance(asked, Experiment):
        found[input_keys.EXPERIMENT.key("economics")] = asked.section_sha256("economics", "schemes")
    else:
        found[input_keys.SCENARIO.key("economics")] = asked.section_sha256("economics", "assumed")
    return found | {input_keys.PRICES.key(name): sha256_file(tables.folder / name) for name in TABLE_FILES}


def _beside(folder: Path, results: Path) -> str:
    """Name a run's folder as seen from results/."""
    return os.path.relpath(folder.resolve(), results.resolve())
