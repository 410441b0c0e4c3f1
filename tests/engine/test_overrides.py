"""Layers that are treated differently, through real quantizers and real vLLM: a small random Llama, no real weights."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import ROOT
from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.engine_quality import EngineQuality
from tokenhour.contracts.records.server import Server
from tokenhour.machine.kernel_support import has_kernel
from tokenhour.machine.run_folder import RunDir
from tokenhour.quantize.source.synthetic import SHAPES, config_of
from tokenhour.quantize.source.synthetic_tokenizer import write_tokenizer

pytestmark = pytest.mark.engine

SCHEMES = ("gptq-int4", "w4a16")
EXPERIMENT = """\
name: overrides-test
schemes: [none, gptq-int4, w4a16]
quantize:
  group_size: 64
  scale_search: false
  ignore: [lm_head, 're:.*layers\\.1\\.mlp\\.down_proj']
  overrides:
    - {match: 'layers\\.0\\.mlp', group_size: 32}
    - {match: 'layers\\.1\\.self_attn\\.[qkv]_proj', skip: true}
  calibration: {windows: 4, window_tokens: 128}
  evaluation: {windows: 4, window_tokens: 128}
serving: {max_model_len: 256, max_num_seqs: 4, kv_cache_gib: 0.5, enforce_eager: true, device: cpu}
bench:
  workload: {prompt: {mean_tokens: 24}, output: {mean_tokens: 12}}
  slo: {percentile: 90, ttft_s: 3}
economics: {hardware: c7i.large, apis: [{model: gpt-4o-mini, host: openai}]}
"""


def random_model(folder: Path) -> Path:
    """Write a model whose layers decide its answers: weights of a usual size would leave the embeddings to do it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = SHAPES["tiny"]
    torch.manual_seed(0)
    config = LlamaConfig(**config_of(shape) | {"initializer_range": 0.1})
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    write_tokenizer(folder, shape.vocabulary, shape.positions)
    return folder


class House:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "exp.yaml"
        model = {"model": {"source": str(random_model(folder / "model"))}}
        self.file.write_text(yaml.safe_dump(yaml.safe_load(EXPERIMENT) | model))
        self.experiment, self.results = load_experiment(self.file), folder / "results"
        self.places = ("--results", str(self.results), "--checkpoints", str(folder / "checkpoints"))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command and keep its output for the test's log."""
        argv = [sys.executable, "-m", "tokenhour", *words]
        done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=600, check=False)
        print(done.stdout, done.stderr)
        return done

    def folder(self, scheme: str) -> Path:
        """Return the run folder of a scheme."""
        return RunDir.of(self.results, self.experiment, scheme).path


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Quantize the random model by every scheme of the experiment."""
    house = House(tmp_path_factory.mktemp("overrides"))
    done = house.run("quantize", "run", str(house.file), *house.places)
    assert done.returncode == 0, done.stderr
    return house


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_layer_is_packed_as_its_rule_says(house: House, scheme: str) -> None:
    """Group sizes and skipped layers in the file on disk are those of the override rules."""
    from safetensors import safe_open

    found = Checkpoint.read(house.folder(scheme))
    with safe_open(Path(found.path) / "model.safetensors", framework="pt") as weights:
        shapes = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118 (no mapping)
    scales = {name.rsplit(".", 1)[0]: shape for name, shape in shapes.items() if name.endswith(("scales", "weight_scale"))}
    # One library has the groups first and the outputs second; there are fewer groups than outputs.
    groups = {name: (512 if "down_proj" in name else 256) // min(shape) for name, shape in scales.items()}
    block = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj")
    assert groups == {
        **{f"model.layers.0.{name}": 32 if "mlp" in name else 64 for name in (*block, "mlp.down_proj")},
        **{f"model.layers.1.{name}": 64 for name in ("self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj")},
    }
    assert {"model.layers.1.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"} <= set(shapes)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_vllm_reads_the_same_rules(house: House, scheme: str) -> None:
    """A layer read by another rule than it was packed by would give noise: no choice would be the original's."""
    words = ("quantize", "through-engine", str(house.file), "--scheme", scheme, *house.places)
    inside = (sys.executable, "-m", "tokenhour", *words)
    done = house.run("serving", "run", str(house.file), "--scheme", scheme, *house.places[:2], "--", *inside)
    if not has_kernel(scheme, "cpu"):
        assert done.returncode == 2
        assert f"no kernel for {scheme} on a CPU without AVX-512" in done.stderr
        return
    # 1: outside the bounds, which are for models that were taught something; the figures themselves are looked at below.
    assert done.returncode in {0, 1}, done.stderr
    assert Server.read(house.folder(scheme)).quantization in {"compressed-tensors", "gptq", "auto_gptq", "gptq_marlin"}
    found = EngineQuality.read(house.folder(scheme))
    assert found.perplexity_ratio.value == pytest.approx(1, abs=0.03)
    assert found.top1_agreement.value == pytest.approx(found.offline_top1_agreement.value, abs=0.08)
    assert found.top1_agreement.value > 0.3
