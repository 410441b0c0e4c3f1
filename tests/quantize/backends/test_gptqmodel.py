"""GPTQModel packs what it is asked to, and engines find the rules of the layers that they fuse."""

import re
from collections.abc import Callable

import pytest

from tests.quantize.model.test_layer_rules import WIDTHS, spec
from tests.quantize.written import LINEARS, MOST_KL, kinds, quantization
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.quantize.backends.gptqmodel import dynamic
from tokenhour.quantize.model.layer_rules import Treatment, resolve, with_wholes


def test_engines_find_the_rules_under_the_names_of_the_layers_that_they_compute_as_one() -> None:
    """Engines look rules up by their fused names; without them they would read the weights wrongly."""
    layers = resolve(spec({"match": r"layers\.0\.mlp", "group_size": 32}, {"match": "[qkv]_proj", "skip": True}), WIDTHS)
    assert with_wholes(layers)["model.layers.0.mlp.gate_up_proj"] == Treatment(group_size=32)
    assert with_wholes(layers)["model.layers.1.self_attn.qkv_proj"] == Treatment(skip=True)
    rules = dynamic(layers)
    assert sorted(rules.values(), key=str) == [{"group_size": 32}, {}]

    def rule_of(name: str) -> str:
        """As GPTQModel and vLLM look it up."""
        return next((mark for mark in rules if re.match(mark[2:], name)), "none")[0]

    assert rule_of("model.layers.0.mlp.gate_up_proj") == rule_of("model.layers.0.mlp.up_proj") == "+"
    assert rule_of("model.layers.1.self_attn.qkv_proj") == rule_of("model.layers.1.self_attn.v_proj") == "-"
    assert rule_of("model.layers.1.mlp.gate_up_proj") == rule_of("lm_head") == "n"


@pytest.mark.system
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


@pytest.mark.system
@pytest.mark.filterwarnings("default")
def test_gptq_says_that_the_head_is_left_alone_when_nothing_ignores_it(packed: Callable[..., Checkpoint]) -> None:
    """GPTQ never quantizes the head; recipe and notes say so when the user expected otherwise."""
    found = packed("gptq-int8", ignore=())
    assert found.recipe["ignore"] == ["lm_head"]
    assert "lm_head stays in its original precision" in " ".join(found.notes)
    assert "lm_head" not in " ".join(packed("gptq-int8").notes)
    assert kinds(found).count("I32") == kinds(packed("gptq-int8")).count("I32")
