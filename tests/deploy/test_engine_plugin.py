"""Dummy weights of quantized layers are random numbers in the right range, and nothing else is touched."""

import importlib.util
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")

PLUGIN = Path(__file__).parents[2] / "deploy/engine_plugin"


def load() -> ModuleType:
    """Import it from beside the packages, where the engine's interpreter finds it."""
    spec = importlib.util.spec_from_file_location("tokenhour_random_bits", PLUGIN / "tokenhour_random_bits.py")
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


plugin = load()


def entropy(tensor: Any) -> float:
    """Return the entropy of a tensor's bytes, bits a byte."""
    counts = torch.bincount(tensor.view(torch.uint8).flatten().long(), minlength=256).double()
    share = counts[counts > 0] / counts.sum()
    return float(-(share * share.log2()).sum())


@pytest.mark.parametrize(
    ("name", "dtype", "least_bits"),
    [
        ("model.layers.0.mlp.down_proj.weight", torch.int8, 6.5),
        ("model.layers.0.mlp.down_proj.weight", torch.float8_e4m3fn, 5.0),
        ("model.layers.0.mlp.down_proj.weight_packed", torch.int32, 7.9),
    ],
)
def test_quantized_weights_toggle(name: str, dtype: Any, least_bits: float) -> None:
    """Filled weights are nearly random bits, so that dummy weights draw power like real ones."""
    tensor = torch.zeros(512, 512, dtype=torch.uint8).view(dtype)
    assert plugin.fill(name, tensor)
    assert entropy(tensor) > least_bits
    if dtype != torch.int32:
        assert torch.isfinite(tensor.float()).all()


def test_scales_are_small_and_positive() -> None:
    """Scales stay small, so that random weights do not overflow the activations."""
    tensor = torch.zeros(512, 1, dtype=torch.bfloat16)
    assert plugin.fill("q_proj.weight_scale", tensor)
    assert (tensor > 0).all()
    assert tensor.max() < 0.01


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("norm.weight", torch.bfloat16), ("q_proj.weight_shape", torch.int64), ("rotary.cache", torch.int32)],
)
def test_everything_else_stays(name: str, dtype: Any) -> None:
    """Norms, shapes and caches keep their values: random ones would break the model."""
    tensor = torch.ones(8, 8, dtype=dtype)
    assert not plugin.fill(name, tensor)
    assert (tensor == 1).all()


def test_the_engine_finds_it_by_its_entry_point_and_it_waits_for_its_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin is discovered by vLLM and does nothing for servers that did not ask for it."""
    (found,) = metadata.distributions(path=[str(PLUGIN)])
    (point,) = found.entry_points
    assert (point.group, point.value) == ("vllm.general_plugins", "tokenhour_random_bits:register")
    monkeypatch.delenv(plugin.SWITCH, raising=False)
    plugin.register()  # without the switch it does not even import vLLM
    assert "vllm" not in sys.modules
