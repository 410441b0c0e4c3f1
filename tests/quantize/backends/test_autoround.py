"""What AutoRound learned is what is packed; where it breaks or knows other layers, the run failed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.quantize.tiny import experiment, tiny_model
from tests.quantize.written import LINEARS
from tokenhour.contracts.config.model_quantize import QuantizeSpec
from tokenhour.contracts.errors import RunFailedError
from tokenhour.quantize.backends import autoround
from tokenhour.quantize.build import make
from tokenhour.quantize.cache_key import Workshop
from tokenhour.quantize.model.layer_rules import linear_layers, resolve
from tokenhour.quantize.scheme_table import Job
from tokenhour.quantize.schemes import w4a16

pytestmark = pytest.mark.system


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("symmetric", [False, True])
def test_autoround_is_packed_as_it_was_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, symmetric: bool) -> None:
    """What is read back is what was learned; what is left alone or has other groups or bits is so."""
    import torch

    learned = {}
    monkeypatch.setattr(w4a16, "tune", lambda job, **how: learned.update(autoround.tune(job, **how)) or learned)
    rules = [
        {"match": r"layers\.0\.mlp\.down", "skip": True},
        {"match": r"layers\.1\.mlp\.down", "group_size": 32},
        {"match": r"layers\.1\.mlp\.", "bits": 8},
    ]
    spec = QuantizeSpec.model_validate({"w4a16_method": "autoround", "symmetric": symmetric, "overrides": rules})
    base = tiny_model(tmp_path / "m", hidden=64)
    layers = resolve(spec, linear_layers(base))
    ids = np.random.default_rng(0).integers(2, 200, (4, 32))
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(5)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    recipe = w4a16.make(Job(base, tmp_path / "packed", spec, ids, 16, layers=layers))
    assert torch.rand(1) == drawn
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert (recipe["method"], recipe["iterations"], recipe["symmetric"]) == ("AutoRound", 30, symmetric)
    assert len(learned) == LINEARS - 1
    assert learned["model.layers.1.mlp.down_proj"].scale.shape == (64, 4)
    assert learned["model.layers.0.mlp.up_proj"].scale.shape == (128, 4)
    state, before = computed(tmp_path / "packed"), computed(base)
    assert torch.equal(state["model.layers.0.mlp.down_proj"], before["model.layers.0.mlp.down_proj"])
    for name, one in learned.items():
        weight = one.weight.float()
        groups = weight.shape[1] // one.scale.shape[1]
        off = (state[name] - weight).abs() / one.scale.float().abs().repeat_interleave(groups, dim=1)
        # Of 8 bits one step is lost here and there.
        assert off.max() < (1.1 if "layers.1.mlp.gate" in name or "layers.1.mlp.up" in name else 0.01), name
        assert (off > 0.01).float().mean() < 0.03, name
    # Rounded plainly, a weight would stay within half a step.
    one = learned["model.layers.0.mlp.up_proj"]
    steps = (one.weight.float() - before["model.layers.0.mlp.up_proj"]) / one.scale.float().abs().repeat_interleave(
        16, dim=1
    )
    assert (steps.abs() > 0.6).float().mean() > 0.01


def computed(folder: Path) -> dict[str, Any]:
    """Return each linear layer's weights as it computes with them, by its name."""
    import torch

    model = w4a16.load(folder)
    with torch.no_grad():
        model(torch.tensor([[2, 3]]))  # the first pass unpacks them
    return {n: m.weight.float() for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}


@pytest.mark.filterwarnings("default")
def test_layers_that_only_one_side_knows_are_not_rounded_plainly_under_a_wrong_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer that was not learned fails the run; otherwise worse weights would pass as AutoRound's."""

    def less(job: Job, **how: Any) -> dict[str, Any]:
        return {name: one for name, one in autoround.tune(job, **how).items() if "v_proj" not in name}

    monkeypatch.setattr(w4a16, "tune", less)
    model, where = tiny_model(tmp_path / "m", hidden=64), Workshop(tmp_path / "checkpoints", tmp_path)
    with pytest.raises(RunFailedError, match=r"2 differ, model\.layers\.0\.self_attn\.v_proj first"):
        make(experiment(model, tmp_path / "text.txt", w4a16_method="autoround"), "w4a16", where)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("layers"), "AutoRound failed: KeyError 'layers'"),
        (SystemExit(), r"AutoRound failed: SystemExit\n"),
        (RuntimeError("CUDA out of memory"), "AutoRound failed: memory ran out: RuntimeError CUDA out of memory"),
    ],
)
def test_a_model_on_which_autoround_breaks_is_a_run_that_failed_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    """Users learn to set `w4a16_method: gptq`, and no checkpoint is left."""

    def breaks(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(autoround, "_learn", breaks)
    model, where = tiny_model(tmp_path / "m", hidden=64), Workshop(tmp_path / "checkpoints", tmp_path)
    with pytest.raises(RunFailedError, match=said) as caught:
        make(experiment(model, tmp_path / "text.txt", w4a16_method="autoround"), "w4a16", where)
    assert "w4a16_method: gptq" in caught.value.remedy
    assert not list(where.checkpoints.glob("*w4a16*/"))
