"""The schemes whose libraries run on a CPU, on a tiny model: what they pack, and that it loads and computes nearly that."""

import json
import re
from pathlib import Path

import pytest

from contracts.errors import InputError
from contracts.quantize_spec import SCHEMES, QuantizeSpec
from quantize.inputs import Workshop
from quantize.make import current, make
from quantize.schemes import MODULES, check
from tests.quantize.tiny import experiment, tiny_model

pytestmark = pytest.mark.system
LINEARS = 14
"""Seven in each of two blocks."""
# The logits of random weights hardly differ: one layer of zeros costs 8e-5, INT4 up to 3e-5.
MOST_KL = 6e-5


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Return what makes a scheme of one model, with settings, into one workshop: the original is made once."""
    folder = tmp_path_factory.mktemp("schemes")
    model = tiny_model(folder / "m")
    where = Workshop(folder / "checkpoints", folder)

    def pack(scheme, **settings):
        spec = experiment(model, folder / "text.txt", **settings)
        return current(spec, scheme, where) or make(spec, scheme, where)

    return pack


def kinds(found) -> list[str]:
    """List the types of the tensors that were written."""
    from safetensors import safe_open

    with safe_open(f"{found.path}/model.safetensors", framework="pt") as weights:
        return [weights.get_slice(name).get_dtype() for name in weights.keys()]  # noqa: SIM118 (no mapping)


def quantization(found) -> dict:
    return json.loads((Path(found.path) / "config.json").read_text())["quantization_config"]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("scheme", "bits", "most"), [("gptq-int8", 8, 1e-6), ("gptq-int4", 4, MOST_KL)])
def test_gptq_packs_its_bits_and_8_lose_next_to_nothing(packed, scheme, bits, most):
    found = packed(scheme)
    said = quantization(found)
    assert (said["bits"], said["group_size"], said["sym"], said["quant_method"]) == (bits, 16, True, "gptq")
    assert found.recipe["weights"] == f"int{bits} symmetric, groups of 16"
    # Its packed integers and zero points.
    assert kinds(found).count("I32") >= 2 * LINEARS
    assert 0 < found.quality.mean_kl_divergence.value < most


@pytest.mark.filterwarnings("default")
def test_gptq_says_that_the_head_is_left_alone_when_nothing_ignores_it(packed):
    found = packed("gptq-int8", ignore=())
    assert found.recipe["ignore"] == ["lm_head"]
    assert "lm_head stays in its original precision" in " ".join(found.notes)
    assert "lm_head" not in " ".join(packed("gptq-int8").notes)
    assert kinds(found).count("I32") == kinds(packed("gptq-int8")).count("I32")


@pytest.mark.filterwarnings("default")
def test_fp8_packs_8_bit_floats_and_loads_on_a_cpu(packed):
    found = packed("fp8")
    assert kinds(found).count("F8_E4M3") == LINEARS
    assert found.calibration is None
    assert 0 < found.quality.mean_kl_divergence.value < MOST_KL


@pytest.mark.filterwarnings("default")
def test_w4a16_has_zero_points_unless_it_is_symmetric(packed):
    for asked, symmetric in ((None, False), (False, False), (True, True)):
        found = packed("w4a16", symmetric=asked)
        weights = quantization(found)["config_groups"]["group_0"]["weights"]
        assert (weights["num_bits"], weights["group_size"], weights["symmetric"]) == (4, 16, symmetric)
        assert found.recipe["symmetric"] is symmetric
        assert 0 < found.quality.mean_kl_divergence.value < MOST_KL


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_every_manifest_names_the_library_that_loads_the_weights(scheme):
    assert "transformers" in MODULES[scheme][1]


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_zero_points_are_refused_where_there_are_none(scheme):
    spec = QuantizeSpec(symmetric=False)
    if scheme in ("w4a16", "none"):
        check(scheme, spec)
        return
    with pytest.raises(InputError, match=re.escape(f"{scheme} is symmetric")) as caught:
        check(scheme, spec)
    assert (caught.value.where, "w4a16" in caught.value.remedy) == ("quantize.symmetric", True)
