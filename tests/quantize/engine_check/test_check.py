"""Quality through an engine's logprobs: a server on loopback computes with real weights, the right or the wrong ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.quantize.engine_check.toy_engine import Bench, engine
from tokenhour.contracts.errors import InputError, TokenhourError
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.engine_quality import EngineQuality
from tokenhour.quantize.evaluation.forward import load_dense

pytestmark = pytest.mark.system


def test_an_engine_that_computes_what_was_quantized_agrees(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """Figures through the engine match the offline ones, which proves that the right weights are served."""
    with engine(bench.made["gptq-int4"].path) as url:
        assert bench.ask(url) == 0
    found, offline = EngineQuality.read(bench.run), bench.made["gptq-int4"].quality
    assert found.agrees
    assert found.perplexity.value == pytest.approx(offline.perplexity.value, rel=1e-4)
    assert found.perplexity_ratio.value == pytest.approx(1, abs=1e-4)
    assert found.loss.value == pytest.approx(np.log(offline.perplexity_ratio), abs=1e-4)
    assert found.offline_loss.value == pytest.approx(found.loss.value, abs=1e-4)
    assert found.top_kl_divergence.value == pytest.approx(offline.top_kl_divergence.value, rel=1e-3)
    assert found.top1_agreement.value == pytest.approx(offline.top1_agreement.value, abs=1e-9)
    assert found.quantization == "gptq"
    assert found.original_would_be_found_out
    assert ": agrees; loss against the original, nats a token +" in capfd.readouterr().out


def test_an_engine_that_serves_the_original_in_its_place_is_found_out(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    """Serving unquantized weights would look better than the checkpoint, and is reported as a disagreement."""
    with engine(bench.made["none"].path) as url:
        assert bench.ask(url) == 1
    found, original = EngineQuality.read(bench.run), bench.made["none"].quality
    assert found.loss.value == pytest.approx(0, abs=1e-4)
    assert found.loss_bounds
    assert found.loss_bounds[0] > 0.1
    assert found.top_kl_divergence.value == pytest.approx(0, abs=1e-4)
    assert found.top_kl_bounds
    assert found.top_kl_bounds[0] > 0.01
    assert found.top1_agreement.value == 1
    assert found.perplexity.value == pytest.approx(original.perplexity.value, rel=1e-4)
    assert not found.agrees
    assert "DISAGREES" in capfd.readouterr().out


def test_an_engine_that_computes_something_else_is_found_out(
    bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Broken kernels or weights fail the check with exit code 1 and an explanation."""
    other = load_dense(Path(bench.made["gptq-int4"].path))
    import torch

    with torch.no_grad():
        other.model.layers[1].mlp.down_proj.weight.mul_(-30)
    other.save_pretrained(tmp_path / "other")
    with engine(tmp_path / "other") as url:
        assert bench.ask(url) == 1
    assert not EngineQuality.read(bench.run).agrees
    shown = capfd.readouterr()
    assert "DISAGREES" in shown.out
    assert "do not compute what was quantized" in shown.err


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"checkpoint_sha256": "another"}, InputError, "served another checkpoint"),
        ({}, InputError, "no server answers"),
    ],
)
def test_another_checkpoints_server_or_none_is_refused(
    bench: Bench, capfd: pytest.CaptureFixture[str], changes: dict[str, Any], error: type[TokenhourError], said: str
) -> None:
    """The check never judges a checkpoint by a server of another one."""
    assert bench.ask("http://127.0.0.1:9", **changes) == error.exit_code
    assert said in capfd.readouterr().err


@pytest.mark.parametrize(
    "changes", [{"sha256": "another"}, {"sha256": "another", "windows": 2}], ids=["other text", "other windows"]
)
def test_a_manifest_of_other_windows_is_refused(
    bench: Bench, capfd: pytest.CaptureFixture[str], changes: dict[str, Any]
) -> None:
    """The experiment's evaluation changed after the checkpoint was published."""
    file = bench.run / Checkpoint.file_name
    kept = file.read_bytes()
    data = json.loads(kept)
    data["quality"]["evaluation"] |= changes
    data["quality"]["window_nll"] = data["quality"]["window_nll"][: changes.get("windows", 4)]
    file.write_text(json.dumps(data))
    try:
        assert bench.ask("http://127.0.0.1:9") == InputError.exit_code
    finally:
        file.write_bytes(kept)
    shown = capfd.readouterr().err
    assert "gptq-int4 was evaluated on other windows" in shown
    assert "quantize run" in shown


def test_windows_that_do_not_fit_into_the_engine_are_refused(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """The message names `serving.max_model_len` before the server is asked."""
    small = bench.spec.serving.model_copy(update={"max_model_len": 32})
    whole = bench.spec
    bench.spec = bench.spec.model_copy(update={"serving": small})
    try:
        assert bench.ask("http://127.0.0.1:9") == 2
    finally:
        bench.spec = whole
    assert "serving.max_model_len" in capfd.readouterr().err
