"""The steps of a GPU proof: each one reuses what is current, and a step that fails does not end the others."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import OutOfTimeError, RunFailedError, TokenhourError
from tokenhour.contracts.io.atomic_io import write_bytes_atomic
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.records.summary import Reason, Summary
from tokenhour.contracts.standalone.gpu_benchmark import Loaded, ProofStep, StepState
from tokenhour.contracts.standalone.roofline import MachineRates
from tokenhour.contracts.units import human_seconds
from tokenhour.frontdoor.gpu_benchmark import experiments as proof_plan
from tokenhour.frontdoor.gpu_benchmark import time_budget
from tokenhour.frontdoor.pipeline import STOPPED, run_step
from tokenhour.frontdoor.roofline_command import keep, measured
from tokenhour.machine.hardware import accelerator_for
from tokenhour.machine.lineage import stale_summary
from tokenhour.machine.run_folder import RunDir

NOT_APPLICABLE: Literal["not applicable"] = "not applicable"
"""Skipped for good: this machine or this model cannot do it."""
Outcome = tuple[StepState | Literal["not applicable"], str]
_KERNEL = re.compile(
    r"Using [A-Za-z0-9_]+Kernel\b[^\n]*|Selected [A-Za-z0-9_]+ for [^\n]*|Using [A-Z_]+ attention backend|"
    r"Using FlashAttention version [^\n]*"
)


@dataclass(slots=True)
class Session:
    """One call: what is wanted, the time left, the steps so far."""

    wanted: proof_plan.Wanted
    budget_s: float
    results: Path
    engine: str
    began: float = field(default_factory=time.monotonic)
    steps: list[ProofStep] = field(default_factory=list)
    loaded: list[Loaded] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)
    """Of the servers seen so far, from launch to first answer."""

    @property
    def folder(self) -> Path:
        """Where the proof's own records are."""
        return self.results / self.wanted.name

    def spent_s(self) -> float:
        """Seconds since the call began."""
        return time.monotonic() - self.began

    def run(self, arguments: tuple[str, ...], after_s: float = 0.0) -> int:
        """Run a stage that leaves `after_s` for what comes after it; OutOfTimeError when it has not ended by then."""
        stop_s = time_budget.PLAIN_STOP_S
        limit_s = time_budget.left_s(self.spent_s(), self.budget_s, after_s, stop_s)
        if limit_s <= 0:
            raise OutOfTimeError("no time is left", remedy="run the same command to go on")
        return run_step(arguments, limit_s, stop_s)

    def step(self, name: str, run: Callable[[], Outcome]) -> StepState:
        """Do one step, say it, and keep its outcome; our own errors fail the step and not the proof."""
        print(
            f"\n== {name}  [{human_seconds(self.spent_s())} of {human_seconds(self.budget_s)}]", file=sys.stderr, flush=True
        )
        before, applicable = self.spent_s(), True
        try:
            state, detail = run()
        except TokenhourError as error:
            state, detail = "failed", f"{error.where}: {error.what}" if error.where else error.what
        if state == NOT_APPLICABLE:
            state, detail, applicable = "skipped", f"{NOT_APPLICABLE}: {detail}", False
        if state in {"skipped", "failed", "invalid"}:
            print(f"   {state}: {detail}", file=sys.stderr)
        seconds = self.spent_s() - before
        self.steps.append(ProofStep(name=name, state=state, detail=detail, applicable=applicable, seconds=seconds))
        return state


def file_of(session: Session, experiment: Experiment, suffix: str = "") -> Path:
    """Return where the proof keeps an experiment's file."""
    return session.folder / f"{experiment.name.removeprefix(session.wanted.name + '-')}{suffix}.json"


def run(session: Session, schemes: tuple[str, ...], experiments: tuple[Experiment, ...]) -> None:
    """Do every step in order."""
    session.step("the machine's rates", lambda: rates(session))
    session.step("calibrate the load generator", lambda: calibrate(session))
    for scheme in schemes:
        session.step(f"checkpoint: {scheme}", lambda scheme=scheme: make(session, experiments, scheme))  # type: ignore[misc]
    # Quantizing real weights takes what it takes; the budget is that of measuring.
    session.began = time.monotonic() if not session.wanted.dummy else session.began
    for scheme in schemes:
        session.step(f"measure: {scheme}", lambda scheme=scheme: measure(session, experiments, scheme))  # type: ignore[misc]
    for each in experiments:
        session.step(f"verdict: {each.name}", lambda each=each: decide(session, each))  # type: ignore[misc]


def rates(session: Session) -> Outcome:
    """Measure copy bandwidth and matrix rates, unless this machine's stand there."""
    here = accelerator_for(session.wanted.device)
    if MachineRates.exists(session.folder) and MachineRates.read(session.folder).accelerator == here:
        return "reused", ""
    RunDir(session.folder).supersede(MachineRates.file_name)
    measured(session.wanted.device).write(session.folder)
    return "done", ""


def calibrate(session: Session) -> Outcome:
    """Certify the load generator on this machine; every run below takes the certificate that is kept."""
    from tokenhour.bench.calibration.calibrate import certified, kept_at

    kept = kept_at(session.results, 1).is_file()
    found, how = certified(session.results)
    print(f"   {how}", file=sys.stderr)
    return (NOT_APPLICABLE, how) if found is None else ("reused" if kept else "done", "")


def make(session: Session, experiments: tuple[Experiment, ...], scheme: str) -> Outcome:
    """Make or reuse a precision's checkpoint: a shape's config and tokenizer, or quantized weights with their quality."""
    code, after = 0, proof_plan.work_of(session.wanted, (scheme,)).after_s
    for each in experiments:
        arguments = ("quantize", "run", str(file_of(session, each)), "--scheme", scheme, "--results", str(session.results))
        code = code or (session.run(arguments, after) if session.wanted.dummy else run_step(arguments))
    return ("done", "") if code == 0 else ("failed", f"exit code {code}")


def measure(session: Session, experiments: tuple[Experiment, ...], scheme: str) -> Outcome:
    """Serve one precision once and measure every mix of it, if there is time left."""
    runs = [RunDir.of(session.results, each, scheme).path for each in experiments]
    if is_current(session, experiments, runs):
        note_loaded(session, scheme, runs[0])
        return "reused", ""
    work = proof_plan.work_of(session.wanted, (scheme,))
    measuring = work.mixes * time_budget.cost_s(experiments[0].bench.search)
    needed = time_budget.start_s(work.start_s, session.starts_s) + measuring
    times = (session.spent_s(), session.budget_s, work.after_s)
    if not time_budget.fits(needed, *times):
        return "skipped", f"not measured for time: it takes up to {human_seconds(needed)}; run the same command to go on"
    before = digests(runs)
    try:
        ready, left = experiments[0].serving.ready_timeout_s, time_budget.left_s(*times)
        code = serve(session, experiments, scheme, time_budget.deadline_s(ready, measuring, left))
    except OutOfTimeError as late:
        # It may have been measured whole, VALID or not, and hung in its stop.
        untouched = any(now in {None, was} for now, was in zip(digests(runs), before, strict=True))
        if untouched and not is_current(session, experiments, runs):
            return "skipped", f"not measured for time: {late.what}; {late.remedy}"
        code = 0
    if code in STOPPED:
        raise KeyboardInterrupt
    missing = [run.name for run in runs if not Summary.exists(run)]
    if missing:
        return "failed", f"exit code {code}; no summary in {', '.join(missing)}"
    note_loaded(session, scheme, runs[0])
    invalid = [s for s in map(Summary.read, runs) if s.validity == "INVALID"]
    if invalid:
        return "invalid", "; ".join(f"{s.run}: {', '.join(map(named, s.reasons))}" for s in invalid)
    return ("done", "") if code == 0 else ("failed", f"exit code {code}")


def named(reason: Reason) -> str:
    """Name a reason, with what held the load generator up."""
    return f"{reason.rule} ({reason.explanation})" if reason.explanation else reason.rule


def is_current(session: Session, experiments: tuple[Experiment, ...], runs: list[Path]) -> bool:
    """Tell whether every mix of a precision stands there, VALID and of these inputs."""
    return not any(stale_summary(run, each, session.engine) for run, each in zip(runs, experiments, strict=True))


def digests(runs: list[Path]) -> list[str | None]:
    """Return each run's summary as its sha256; None where there is none."""
    return [Summary.sha256_in(run) if Summary.exists(run) else None for run in runs]


def serve(session: Session, experiments: tuple[Experiment, ...], scheme: str, limit_s: float) -> int:
    """Serve one precision and measure its mixes beside it; OutOfTimeError after `limit_s`."""
    files = [str(file_of(session, each)) for each in experiments]
    inner = (sys.executable, "-m", "tokenhour.frontdoor.gpu_benchmark.measure_mixes", scheme, str(session.results), *files)
    where = ("--scheme", scheme, "--results", str(session.results))
    return run_step(("serving", "run", files[0], *where, "--", *inner), limit_s, time_budget.STOP_S)


def note_loaded(session: Session, scheme: str, run: Path) -> None:
    """Keep what the engine said that it loaded; RunFailedError for another format than the one that was asked for."""
    server = Server.read(run)
    session.starts_s.append(server.cold_start.ready_s)
    log = Path(server.log_path)
    kernels = kernels_of(log.read_text(errors="replace")) if log.is_file() else ()
    session.loaded.append(Loaded(scheme=scheme, quantization=server.quantization, kernels=kernels))
    expected = proof_plan.LOADED[scheme]
    if server.quantization not in expected:
        raise RunFailedError(f"the engine loaded {server.quantization}, not {scheme}", where=str(log))


def kernels_of(log: str) -> tuple[str, ...]:
    """Return the engine's lines about kernels and attention backends, each once."""
    return tuple(sorted(set(_KERNEL.findall(re.sub(r"\x1b\[[0-9;]*m", "", log)))))


def decide(session: Session, experiment: Experiment) -> Outcome:
    """Rooflines, verdict, report and comparison over the VALID runs of one mix."""
    runs = valid_runs(session, experiment)
    if not runs:
        return "skipped", "no VALID run"
    if MachineRates.exists(session.folder):
        found = MachineRates.read(session.folder)
        for run in runs:
            print(f"   {keep(run, found).sentence()}", file=sys.stderr)
    schemes = tuple(Summary.read(run).scheme for run in runs)
    file = file_of(session, experiment, "-verdict")
    write_bytes_atomic(file, experiment.model_copy(update={"schemes": schemes}).to_json())
    to = ("--results", str(session.results))
    synthetic = ("--allow-synthetic",) if session.wanted.dummy else ()
    code = session.run(("breakeven", "solve", str(file), *to)) or session.run(("report", str(file), *to, *synthetic))
    if code:
        return "failed", f"exit code {code}"
    return compare(session, runs)


def compare(session: Session, runs: list[Path]) -> Outcome:
    """Lay the runs side by side."""
    if len(runs) < 2:
        return "done", "one run: nothing to compare"
    code = session.run(("compare", *map(str, runs), "--out", str(session.folder / runs[0].name)))
    return ("done", "") if code == 0 else ("failed", f"compare: exit code {code}")


def valid_runs(session: Session, experiment: Experiment) -> list[Path]:
    """Return the folders of one mix's VALID runs, in the order of its precisions."""
    folders = [RunDir.of(session.results, experiment, scheme).path for scheme in experiment.schemes]
    return [run for run in folders if Summary.exists(run) and Summary.read(run).validity == "VALID"]
