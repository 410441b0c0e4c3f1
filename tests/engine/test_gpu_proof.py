"""The whole GPU proof on the CPU engine with a tiny shape: the same code, everything but a GPU's kernels and counters."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import ROOT
from tests.records import DISTURBANCES
from tokenhour.bench.summary.validity import ENDED_RULE, LAG_RULE
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import Verdict
from tokenhour.contracts.standalone.gpu_benchmark import Proof
from tokenhour.contracts.standalone.roofline import Roofline
from tokenhour.machine.kernel_support import has_kernel

pytestmark = pytest.mark.engine

NAME = "proof-cpu-tiny-quick"
SCHEMES = tuple(name for name in ("none", "w8a8", "w4a16") if has_kernel(name, "cpu"))
# QUICK's eight are a GPU's: a CPU of two cores takes a minute for the rates, and another for each start.
MINUTES = "12"


@dataclass(frozen=True)
class Call:
    """What one call of the proof left."""

    proof: Proof
    valid: frozenset[str]
    states: dict[str, str]


def call(folder: Path) -> Call:
    """Start the proof, once more or for the first time, and look at what it did."""
    command = [sys.executable, "-m", "tokenhour", "gpu-proof", "--device", "cpu", "--model", "shape:tiny", "--quick"]
    command += ["--minutes", MINUTES, "--results", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=1200, check=False)
    print(done.stdout, done.stderr)
    found = Proof.read(folder / NAME)
    # Something else on the machine may disturb a run, or take the time that it needs: then it is INVALID for that alone.
    summaries = {run: Summary.read(folder / run) for run in found.runs}
    reasons = {reason.rule for each in summaries.values() for reason in each.reasons}
    # (A generator that was calibrated meanwhile has a certificate that says so.)
    assert {reason for reason in reasons - DISTURBANCES - {ENDED_RULE} if "certificate" not in reason} == set()
    assert done.returncode == (0 if found.complete else 1)
    assert found.spent_s <= found.budget_s
    valid = frozenset(each.scheme for each in summaries.values() if each.validity == "VALID")
    assert found.complete == (valid == set(SCHEMES))
    return Call(found, valid, {step.name: step.state for step in found.steps})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all calls of the proof write into."""
    return tmp_path_factory.mktemp("proof") / "results"


@pytest.fixture(scope="module")
def first(results: Path) -> Call:
    """Start it once. A disturbed machine may leave runs INVALID, and a slow one some without time: both are recorded."""
    return call(results)


def test_each_precision_was_served_as_what_it_is_and_measured(results: Path, first: Call) -> None:
    """Each measured precision has a summary with the asked-for lengths and no quality claim."""
    measured = [run.removeprefix(f"{NAME}-chat-") for run in first.proof.runs]
    for scheme in SCHEMES:
        state = first.states[f"measure: {scheme}"]
        assert state in {"done", "invalid", "skipped"}
        assert (state == "done") == (scheme in first.valid)
        assert (state != "skipped") == (scheme in measured)
    assert SCHEMES[0] in measured
    packed = dict.fromkeys(SCHEMES[1:], "compressed-tensors")
    formats = {"none": None, **packed}
    assert {one.scheme: one.quantization for one in first.proof.loaded} == {name: formats[name] for name in measured}
    for run in first.proof.runs:
        summary = Summary.read(results / run)
        assert "dummy weights" in summary.synthetic
        assert Checkpoint.read(results / run).quality is None
        if ENDED_RULE in {reason.rule for reason in summary.reasons}:
            continue
        assert summary.peak.output_tokens_per_hour.value > 0
        assert summary.mean_prompt_tokens == pytest.approx(64, rel=0.1)
        assert summary.mean_output_tokens == pytest.approx(32, rel=0.1)
        assert summary.cpu_priority is not None


def test_a_late_generator_is_said_to_have_waited_for_something(results: Path, first: Call) -> None:
    """On a quiet machine there is none, and nothing else was found wrong."""
    for summary in (Summary.read(results / run) for run in first.proof.runs):
        late = [reason for reason in summary.reasons if reason.rule == LAG_RULE]
        assert all(reason.cause and reason.explanation and reason.remedy for reason in late)
        assert (summary.validity == "INVALID") == bool(summary.reasons)


def test_quantized_dummy_weights_were_filled_with_random_numbers(results: Path, first: Call) -> None:
    """The engine's log shows that the plugin ran: all-zero weights would flatter the power figures."""
    for run in first.proof.runs:
        if Summary.read(results / run).scheme == "none":
            continue
        log = Path(Server.read(results / run).log_path).read_text()
        line = next(line for line in log.splitlines() if "random numbers in" in line)
        assert int(line.split("random numbers in ")[1].split()[0]) > 0


def test_rooflines_and_a_verdict_stand_beside_the_valid_runs(results: Path, first: Call) -> None:
    """Every valid run gets a roofline and a place in the verdict and report; invalid ones are marked."""
    for scheme in first.valid:
        peak = Roofline.read(results / f"{NAME}-chat-{scheme}").points[0]
        assert 0 < peak.bandwidth_utilization < 1
        assert 0 < peak.ops_utilization < 1
    page = (results / NAME / "proof.md").read_text()
    assert page.count("| VALID |") == len(first.valid)
    assert page.count("| INVALID |") == len(first.proof.runs) - len(first.valid)
    assert first.states[f"verdict: {NAME}-chat"] == ("done" if first.valid else "skipped")
    if first.valid:
        assert len(Verdict.read(results / f"{NAME}-chat").runs) == len(first.valid)
        assert (results / f"{NAME}-chat/report.html").is_file()


def test_started_again_it_serves_only_what_was_not_valid(results: Path, first: Call) -> None:
    """Whether this machine was disturbed or not: what was VALID is never served twice."""
    again = call(results)
    reused = {scheme for scheme in SCHEMES if again.states[f"measure: {scheme}"] == "reused"}
    assert reused == first.valid
    assert {again.states[f"checkpoint: {scheme}"] for scheme in SCHEMES} == {"done"}
    assert again.states["the machine's rates"] == "reused"
    assert first.valid <= again.valid
