"""The whole GPU proof on the CPU engine with a tiny shape: the same code, everything but a GPU's kernels and counters."""

import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from bench.validity import DISTURBANCES
from contracts.checkpoint import Checkpoint
from contracts.kernels import has_kernel
from contracts.proof import Proof
from contracts.roofline import Roofline
from contracts.run import Summary
from contracts.server import Server
from contracts.verdict import Verdict

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
NAME = "proof-cpu-tiny-quick"
SCHEMES = tuple(name for name in ("none", "w8a8", "w4a16") if has_kernel(name, "cpu"))
# QUICK's eight are a GPU's: a CPU of two cores takes a minute for the rates, and another for each start.
MINUTES = "12"
TRIES = 3


def proof(results):
    command = [sys.executable, "-m", "tokenhour", "gpu-proof", "--device", "cpu", "--model", "shape:tiny", "--quick"]
    command += ["--minutes", MINUTES, "--results", str(results)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=1200, check=False)
    print(done.stdout, done.stderr)
    return done


@dataclass(frozen=True)
class Call:
    """What one call of the proof left."""

    complete: bool
    valid: frozenset[str]
    states: dict[str, str]


def call(folder: Path) -> Call:
    """Start the proof, once more or for the first time, and look at what it did."""
    done = proof(folder)
    found = Proof.read(folder / NAME)
    # Something else on the machine may disturb a run: then it is INVALID for that, and for nothing else.
    summaries = {run: Summary.read(folder / run) for run in found.runs}
    reasons = {reason.rule for each in summaries.values() for reason in each.reasons}
    # (A generator that was calibrated meanwhile has a certificate that says so.)
    assert {reason for reason in reasons - DISTURBANCES if "certificate" not in reason} == set()
    assert done.returncode == (0 if found.complete else 1)
    assert found.spent_s <= found.budget_s
    valid = frozenset(each.scheme for each in summaries.values() if each.validity == "VALID")
    return Call(found.complete, valid, {step.name: step.state for step in found.steps})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("proof") / "results"


@pytest.fixture(scope="module")
def calls(folder):
    """Start it until it is complete, as a person would whose machine was disturbed: each call goes on from the last."""
    found = [call(folder)]
    while not found[-1].complete and len(found) < TRIES:
        found.append(call(folder))
    assert found[-1].complete, f"disturbed {TRIES} times: run these tests with nothing else on the machine"
    return found


@pytest.fixture(scope="module")
def results(folder, calls):
    """Return the results of a proof that is complete."""
    assert calls
    return folder


def test_each_precision_was_served_as_what_it_is_and_measured(results):
    found = Proof.read(results / NAME)
    assert found.runs == tuple(f"{NAME}-chat-{scheme}" for scheme in SCHEMES)
    packed = dict.fromkeys(SCHEMES[1:], "compressed-tensors")
    assert {one.scheme: one.quantization for one in found.loaded} == {"none": None, **packed}
    for run in found.runs:
        summary = Summary.read(results / run)
        assert summary.peak.output_tokens_per_hour.value > 0
        assert "dummy weights" in summary.synthetic
        assert Checkpoint.read(results / run).quality is None
        assert summary.mean_prompt_tokens == pytest.approx(64, rel=0.1)
        assert summary.mean_output_tokens == pytest.approx(32, rel=0.1)


def test_quantized_dummy_weights_were_filled_with_random_numbers(results):
    for scheme in SCHEMES[1:]:
        log = Path(Server.read(results / f"{NAME}-chat-{scheme}").log_path).read_text()
        line = next(line for line in log.splitlines() if "random numbers in" in line)
        assert int(line.split("random numbers in ")[1].split()[0]) > 0


def test_rooflines_and_a_verdict_stand_beside_the_runs(results):
    found = Proof.read(results / NAME)
    for run in found.runs:
        peak = Roofline.read(results / run).points[0]
        assert 0 < peak.bandwidth_utilization < 1
        assert 0 < peak.ops_utilization < 1
    assert len(Verdict.read(results / f"{NAME}-chat").runs) == len(SCHEMES)
    assert (results / f"{NAME}-chat/report.html").is_file()
    assert (results / NAME / "proof.md").read_text().count("| VALID |") == len(SCHEMES)


def test_started_again_it_serves_only_what_was_not_valid(folder, calls):
    """Whether this machine was disturbed or not: what was VALID is never served twice, and at the end that is all."""
    for before, after in pairwise([*calls, call(folder)]):
        reused = {scheme for scheme in SCHEMES if after.states[f"measure: {scheme}"] == "reused"}
        assert reused == before.valid
        assert {after.states[f"checkpoint: {scheme}"] for scheme in SCHEMES} == {"done"}
        assert after.states["the machine's rates"] == "reused"
    assert calls[-1].valid == set(SCHEMES)
