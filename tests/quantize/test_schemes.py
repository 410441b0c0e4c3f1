"""The schemes whose libraries run on a CPU, on a tiny model: what they pack, and that it loads and computes nearly that."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.quantize.tiny import experiment, tiny_model
from tokenhour.contracts.config.model_quantize import SCHEMES, QuantizeSpec
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.quantize.backends import autoround
from tokenhour.quantize.build import current, make
from tokenhour.quantize.cache_key import Workshop
from tokenhour.quantize.model.layer_rules import linear_layers, resolve
from tokenhour.quantize.scheme_table import MODULES, Job, check
from tokenhour.quantize.scheme_table.w4a16_method import settle
from tokenhour.quantize.schemes import w4a16

pytestmark = pytest.mark.system
LINEARS = 14
"""Seven in each of two blocks."""
# The logits of random weights hardly differ: one layer of zeros costs 8e-5, INT4 up to 3e-5.
MOST_KL = 6e-5


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Checkpoint]:
    """Return what makes a scheme of one model, with settings, into one workshop: the original is made once."""
    folder = tmp_path_factory.mktemp("schemes")
    model = tiny_model(folder / "m")
    where = Workshop(folder / "checkpoints", folder)

    def pack(scheme: str, **settings: Any) -> Checkpoint:
        spec = experiment(model, folder / "text.txt", **settings)
        return current(spec, scheme, where) or make(spec, scheme, where)

    return pack


def kinds(found: Checkpoint) -> list[str]:
    """List the types of the tensors that were written."""
    from safetensors import safe_open

    with safe_open(f"{found.path}/model.safetensors", framework="pt") as weights:
        return [weights.get_slice(name).get_dtype() for name in weights.keys()]  # noqa: SIM118 (no mapping)


def quantization(found: Checkpoint) -> dict[str, Any]:
    """Read the quantization that the written config declares."""
    return json.loads((Path(found.path) / "config.json").read_text())["quantization_config"]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("scheme", "bits", "most"), [("gptq-int8", 8, 1e-6), ("gptq-int4", 4, MOST_KL)])
def test_gptq_packs_its_bits_and_8_lose_next_to_nothing(
    packed: Callable[..., Checkpoint], scheme: str, bits: int, most: float
) -> None:
    """Written config, recipe and tensors agree on the bits, and the loss stays within bounds."""
    found = packed(scheme)
    said = quantization(found)
    assert (said["bits"], said["group_size"], said["sym"], said["quant_method"]) == (bits, 16, True, "gptq")
    assert found.recipe["weights"] == f"int{bits} symmetric, groups of 16"
    # Its packed integers and zero points.
    assert kinds(found).count("I32") >= 2 * LINEARS
    assert 0 < found.quality.mean_kl_divergence.value < most


@pytest.mark.filterwarnings("default")
def test_gptq_says_that_the_head_is_left_alone_when_nothing_ignores_it(packed: Callable[..., Checkpoint]) -> None:
    """GPTQ never quantizes the head; recipe and notes say so when the user expected otherwise."""
    found = packed("gptq-int8", ignore=())
    assert found.recipe["ignore"] == ["lm_head"]
    assert "lm_head stays in its original precision" in " ".join(found.notes)
    assert "lm_head" not in " ".join(packed("gptq-int8").notes)
    assert kinds(found).count("I32") == kinds(packed("gptq-int8")).count("I32")


@pytest.mark.filterwarnings("default")
def test_fp8_packs_8_bit_floats_and_loads_on_a_cpu(packed: Callable[..., Checkpoint]) -> None:
    """FP8 needs no calibration and can be checked without a GPU."""
    found = packed("fp8")
    assert kinds(found).count("F8_E4M3") == LINEARS
    assert found.calibration is None
    assert 0 < found.quality.mean_kl_divergence.value < MOST_KL


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
def test_autoround_is_made_judged_and_recorded(tmp_path: Path) -> None:
    """A learned checkpoint carries its method, quality and tool versions, and is reused."""
    model, where = tiny_model(tmp_path / "m", hidden=64), Workshop(tmp_path / "checkpoints", tmp_path)
    spec = experiment(model, tmp_path / "text.txt", w4a16_method="autoround")
    found = make(spec, "w4a16", where)
    assert found.recipe["method"] == "AutoRound"
    assert not any("AutoRound" in note for note in found.notes)
    assert "scale_search" not in found.recipe
    assert kinds(found).count("I32") == 2 * LINEARS  # weights, and packed zero points
    assert 0 < found.quality.mean_kl_divergence.value < MOST_KL
    assert found.tool_versions.keys() >= {"auto-round", "compressed-tensors"}
    assert current(spec, "w4a16", where) == found


def test_by_default_a_plain_decoder_is_learned(tmp_path: Path) -> None:
    """AutoRound is the default of w4a16 where it is known to work."""
    used, notes = settle("w4a16", QuantizeSpec(), tiny_model(tmp_path / "m", hidden=64), {})
    assert (used.w4a16_method, notes) == ("autoround", ())


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
def test_where_autoround_was_not_tried_gptq_takes_its_place_and_says_why(packed: Callable[..., Checkpoint]) -> None:
    """The notes give the reason, unless the user asked for GPTQ."""
    found = packed("w4a16")
    assert found.recipe["method"] == "GPTQ"
    why = "GPTQ, as AutoRound was not tried with fewer than 4096 tokens of calibration (here 128)"
    assert why in " ".join(found.notes)
    assert why not in " ".join(packed("w4a16", w4a16_method="gptq").notes)


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


@pytest.mark.filterwarnings("default")
def test_autoround_says_that_the_head_is_left_alone_when_nothing_ignores_it(tmp_path: Path) -> None:
    """AutoRound keeps the head even if an override asks for it, and says so."""
    model, where = tiny_model(tmp_path / "m", hidden=64), Workshop(tmp_path / "checkpoints", tmp_path)
    asked = {"ignore": (), "overrides": [{"match": "lm_head", "bits": 8}]}
    found = make(experiment(model, tmp_path / "text.txt", w4a16_method="autoround", **asked), "w4a16", where)
    assert found.recipe["ignore"] == ["lm_head"]
    assert "lm_head stays in its original precision" in " ".join(found.notes)
    assert kinds(found).count("I32") == 2 * LINEARS


@pytest.mark.filterwarnings("default")
def test_w4a16_has_zero_points_unless_it_is_symmetric(packed: Callable[..., Checkpoint]) -> None:
    """The `symmetric` setting reaches the written weights and the recipe."""
    for asked, symmetric in ((None, False), (False, False), (True, True)):
        found = packed("w4a16", symmetric=asked)
        weights = quantization(found)["config_groups"]["group_0"]["weights"]
        assert (weights["num_bits"], weights["group_size"], weights["symmetric"]) == (4, 16, symmetric)
        assert found.recipe["symmetric"] is symmetric
        assert 0 < found.quality.mean_kl_divergence.value < MOST_KL


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_every_manifest_names_the_library_that_loads_the_weights(scheme: str) -> None:
    """Without the version of transformers a checkpoint could not be reproduced."""
    assert "transformers" in MODULES[scheme][1]


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_zero_points_are_refused_where_there_are_none(scheme: str) -> None:
    """A setting that a scheme cannot honor is rejected instead of ignored."""
    spec = QuantizeSpec(symmetric=False)
    if scheme in ("w4a16", "none"):
        check(scheme, spec)
        return
    with pytest.raises(InputError, match=re.escape(f"{scheme} is symmetric")) as caught:
        check(scheme, spec)
    assert (caught.value.where, "w4a16" in caught.value.remedy) == ("quantize.symmetric", True)
