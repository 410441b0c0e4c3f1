"""The four methods of w8a8 with the real library, on a tiny model."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.quantize.tiny import experiment, tiny_model
from tokenhour.quantize.build import make
from tokenhour.quantize.cache_key import Workshop

pytestmark = pytest.mark.system


@pytest.mark.filterwarnings("default")
def test_each_method_packs_int8_and_gptq_sees_what_smoothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All four methods write INT8 with a small loss, and GPTQ calibrates on smoothed activations."""
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
    from safetensors import safe_open

    strengths: list[tuple[int, float]] = []
    scales = SmoothQuantModifier._calculate_smoothing_scales

    def spied(self: Any, layers: Any, ranges: Any) -> Any:
        strengths.append((len(layers), self.smoothing_strength))
        return scales(self, layers, ranges)

    monkeypatch.setattr(SmoothQuantModifier, "_calculate_smoothing_scales", spied)
    happened: list[str] = []
    for kind, step, mark in ((SmoothQuantModifier, "_apply_smoothing", "s"), (GPTQModifier, "calibrate_module", "g")):
        monkeypatch.setattr(kind, step, _marked(happened, mark, getattr(kind, step)))
    model, where = tiny_model(tmp_path / "m"), Workshop(tmp_path / "checkpoints", tmp_path)
    for method, order in (("smoothquant-gptq", "s+g+"), ("smoothquant", "s+"), ("gptq", "g+"), ("round-to-nearest", "")):
        happened.clear()
        found = make(experiment(model, tmp_path / "text.txt", w8a8_method=method), "w8a8", where)
        assert found.recipe["method"] == method
        with safe_open(f"{found.path}/model.safetensors", framework="pt") as weights:
            kinds = [weights.get_slice(name).get_dtype() for name in weights.keys()]  # noqa: SIM118 (no mapping)
        assert kinds.count("I8") == 14, "seven layers in each of two blocks"
        assert 0 < found.quality.mean_kl_divergence.value < 0.1
        if "smoothquant" in method:
            assert found.recipe["smoothing_strength"] == 0.8
        # A Hessian of activations that are smoothed afterwards would weigh the wrong errors.
        assert re.fullmatch(order, "".join(happened))
    # Query, key and value; gate and up; the last of the MLP: in two blocks, by two methods.
    assert sorted(strengths) == [(1, 0.5)] * 4 + [(2, 0.8)] * 4 + [(3, 0.8)] * 4


def _marked(happened: list[str], mark: str, step: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        happened.append(mark)
        return step(*arguments, **named)

    return run
