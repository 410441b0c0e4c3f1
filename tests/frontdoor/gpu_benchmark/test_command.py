"""A proof's course with stages that are stand-ins: what is skipped, refused, gone on with, and what is left behind."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.frontdoor.stand_ins import ENGINE, NAME, Stages, proof
from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.standalone.gpu_benchmark import Proof, ProofStep, StepState
from tokenhour.contracts.standalone.roofline import Roofline
from tokenhour.frontdoor.gpu_benchmark import experiments
from tokenhour.frontdoor.gpu_benchmark.command import cli, unfinished
from tokenhour.machine.run_folder import RunDir
from tokenhour.quantize.build import make
from tokenhour.quantize.cache_key import Workshop

pytestmark = pytest.mark.system


def test_a_proof_measures_each_precision_and_leaves_its_record(stages: Stages) -> None:
    """One command measures every supported precision, solves, and records which steps ran or were skipped."""
    done = proof(stages)
    assert done.exception is None, done.output
    found = Proof.read(stages.results / NAME)
    assert found.complete
    assert (found.weights, found.device, found.quick) == ("dummy", "cpu", True)
    assert found.runs == tuple(f"{NAME}-chat-{scheme}" for scheme in ("none", "w8a8", "w4a16"))
    states = {step.name: step.state for step in found.steps}
    assert states["fp8"] == states["bnb-nf4"] == "skipped"
    assert states["measure: w8a8"] == "done"
    assert found.loaded[1].kernels == ("Using CPUScaledMMLinearKernel for CompressedTensors",)
    assert Roofline.exists(stages.results / f"{NAME}-chat-none")
    ended = [arguments[0] for arguments in stages.asked if arguments[0] in {"breakeven", "report", "compare"}]
    assert ended == ["breakeven", "report", "compare"]
    page = (stages.results / NAME / "proof.md").read_text()
    assert "weights: **dummy**" in page
    assert "says nothing of any GPU" in page
    assert f"| {NAME}-chat-w4a16 | VALID |" in page


def test_a_code_and_no_word_of_it_says_which_steps_are_left_to_do() -> None:
    """Whoever rewords a step's detail changes nothing of what a proof still lacks."""

    def step(name: str, state: StepState, *, applicable: bool = True) -> ProofStep:
        return ProofStep(name=name, state=state, detail="not applicable: reworded", seconds=0, applicable=applicable)

    steps = (step("a", "skipped"), step("b", "skipped", applicable=False), step("c", "failed"), step("d", "reused"))
    assert [left.name for left in unfinished(steps)] == ["a", "c"]


def test_with_real_weights_bitsandbytes_is_measured_beside_the_others_in_time_of_its_own(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Weights that a folder holds: INT8 and NF4 are packed, served and priced with the rest, after them."""
    (tmp_path / "weights").mkdir()
    stages.quantization |= dict.fromkeys(experiments.WITH_WEIGHTS, "bitsandbytes")

    def quantize(arguments: Sequence[str]) -> int:
        asked, scheme = load_experiment(Path(arguments[2])), arguments[4]
        assert not asked.serving.dummy_weights
        run = RunDir.of(stages.results, asked, scheme).open(asked)
        shape = asked.model.model_copy(update={"source": "shape:tiny"})
        where = Workshop(tmp_path / f"checkpoints/{scheme}", stages.results)
        folder = make(asked.model_copy(update={"model": shape}), "none", where)
        Checkpoint.read(Path(folder.path)).model_copy(update={"scheme": scheme, "path": folder.path}).write(run.path)
        return 0

    monkeypatch.setattr(stages, "quantize", quantize)
    done = proof(stages, "--model", str(tmp_path / "weights"))
    assert done.exception is None, done.output
    found = Proof.read(stages.results / "proof-cpu-weights-quick")
    assert (found.complete, found.weights) == (True, "real")
    measured = [step.name.removeprefix("measure: ") for step in found.steps if step.name.startswith("measure: ")]
    assert measured == ["none", "w8a8", "w4a16", "bnb-int8", "bnb-nf4"]
    assert {one.scheme: one.quantization for one in found.loaded}["bnb-nf4"] == "bitsandbytes"
    assert found.budget_s > 9 * 60
    asked = json.loads((stages.results / "proof-cpu-weights-quick/chat-verdict.json").read_text())
    assert asked["schemes"] == measured
    page = (stages.results / "proof-cpu-weights-quick/proof.md").read_text()
    assert "chat-bnb-int8 | VALID" in page


def test_started_again_it_serves_nothing_twice(stages: Stages) -> None:
    """Running the proof again reuses every measurement and keeps the earlier record."""
    proof(stages)
    stages.asked.clear()
    assert proof(stages).exception is None
    assert ("serving", "run") not in stages.asked
    states = {step.name: step.state for step in Proof.read(stages.results / NAME).steps}
    assert states["measure: none"] == states["the machine's rates"] == "reused"
    assert (stages.results / NAME / "superseded/1/proof.json").is_file()


def test_an_invalid_run_gets_no_verdict_and_the_proof_is_not_complete(stages: Stages) -> None:
    """An invalid precision is left out of the verdict, and the proof is reported as incomplete."""
    stages.invalid.add("w8a8")
    done = proof(stages)
    assert "not complete: measure: w8a8 (invalid)" in str(done.exception)
    asked = json.loads((stages.results / NAME / "chat-verdict.json").read_text())
    assert asked["schemes"] == ["none", "w4a16"]
    assert not Proof.read(stages.results / NAME).complete


def test_a_silent_fall_back_to_bf16_is_no_int8(stages: Stages) -> None:
    """A proof fails when the engine loads other weights than asked, as the figure would be mislabelled."""
    stages.quantization["w8a8"] = None
    done = proof(stages)
    assert "measure: w8a8 (failed)" in str(done.exception)
    steps = {step.name: step for step in Proof.read(stages.results / NAME).steps}
    assert "the engine loaded None, not w8a8" in steps["measure: w8a8"].detail


def test_told_to_stop_it_stops_and_keeps_its_record(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped proof ends without a verdict and keeps a record of what it had done."""
    monkeypatch.setattr(stages, "serve", lambda _arguments: 143)
    done = proof(stages)
    assert done.exit_code != 0
    steps = [step.name for step in Proof.read(stages.results / NAME).steps]
    assert steps[-1] == "checkpoint: w4a16"
    assert not any(name.startswith("verdict") for name in steps)


def test_what_does_not_fit_the_time_is_left_for_the_next_call(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    """A precision that would overrun the time is skipped and reported, not started."""
    monkeypatch.setattr("tokenhour.frontdoor.gpu_benchmark.time_budget.fits", lambda *_: False)
    done = proof(stages)
    assert "measure: none (skipped)" in str(done.exception)
    assert ("serving", "run") not in stages.asked
    monkeypatch.undo()


def test_without_a_gpu_it_says_so_and_names_the_way_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a GPU the command names the CPU option and writes nothing."""
    here = Accelerator(kind="cpu", name="Some CPU", count=1, memory_bytes=1)
    monkeypatch.setattr("tokenhour.frontdoor.gpu_benchmark.command.accelerator", lambda: here)
    monkeypatch.setattr("tokenhour.frontdoor.gpu_benchmark.command.engine_version", lambda _root: ENGINE)
    done = CliRunner().invoke(cli, ["--results", str(tmp_path)])
    assert isinstance(done.exception, InputError)
    assert "--device cpu" in done.exception.remedy
    assert list(tmp_path.iterdir()) == []
