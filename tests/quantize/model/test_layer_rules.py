"""`ignore` and `overrides` come to the model's own layers, one rule for all libraries, in a form that engines can serve."""

from typing import Any

import pytest

from tokenhour.contracts.config.model_quantize import QuantizeSpec
from tokenhour.contracts.errors import InputError
from tokenhour.quantize.model.layer_rules import Treatment, group_notes, left_alone, resolve, said, special

BLOCK = {"self_attn.q_proj": 256, "self_attn.k_proj": 256, "self_attn.v_proj": 256, "self_attn.o_proj": 256}
BLOCK |= {"mlp.gate_proj": 256, "mlp.up_proj": 256, "mlp.down_proj": 96}
WIDTHS = {f"model.layers.{n}.{name}": width for n in range(2) for name, width in BLOCK.items()} | {"lm_head": 256}


def spec(*overrides: dict[str, Any], ignore: tuple[str, ...] = ("lm_head",)) -> QuantizeSpec:
    """Make quantize settings with these rules."""
    return QuantizeSpec.model_validate({"overrides": overrides, "ignore": ignore})


def test_without_rules_only_the_head_is_left_alone() -> None:
    """Defaults quantize every layer but the head."""
    plain = spec()
    assert not special(plain)
    assert left_alone(plain, {}) == ["lm_head"]
    assert left_alone(plain, resolve(plain, WIDTHS)) == ["lm_head"]
    assert left_alone(spec(ignore=()), {}) == []


def test_ignoring_goes_first_then_the_first_rule_that_matches() -> None:
    """The order of precedence is fixed, so users can predict each layer's treatment."""
    found = resolve(
        spec(
            {"match": r"layers\.0\.mlp", "bits": 8},
            {"match": r"layers\.0\.", "group_size": 32},
            {"match": "o_proj", "skip": True},
            ignore=("lm_head", r"re:.*1\.mlp\.down", "layers.0.mlp.down_proj"),
        ),
        WIDTHS,
    )
    assert found["model.layers.0.mlp.down_proj"] == found["model.layers.1.mlp.down_proj"] == Treatment(skip=True)
    assert found["model.layers.0.mlp.gate_proj"] == Treatment(bits=8)
    assert found["model.layers.0.self_attn.o_proj"] == Treatment(group_size=32)
    assert found["model.layers.1.self_attn.o_proj"] == Treatment(skip=True)
    assert "model.layers.1.self_attn.q_proj" not in found
    assert set(left_alone(spec(), found)) == {
        "lm_head",
        "model.layers.0.mlp.down_proj",
        "model.layers.1.mlp.down_proj",
        "model.layers.1.self_attn.o_proj",
    }


def test_a_group_of_an_override_that_does_not_divide_its_layers_width_is_resolved_downward_and_said() -> None:
    """An override gets the closest group size that works, with a note."""
    rules = spec({"match": r"layers\.0\.mlp", "group_size": 64})
    found = resolve(rules, WIDTHS)
    assert found["model.layers.0.mlp.gate_proj"].group_size == 64
    assert found["model.layers.0.mlp.down_proj"].group_size == 32
    assert group_notes(found, rules) == (r"overrides, layers\.0\.mlp: groups of 32 instead of 64, for kernels and width",)
    assert group_notes(resolve(spec({"match": "o_proj", "group_size": 64}), WIDTHS), rules) == ()


@pytest.mark.parametrize(
    ("rule", "said_of_it"),
    [
        ({"match": "q_proj", "skip": True}, "q_proj, k_proj, v_proj of model.layers.0.self_attn are computed as one layer"),
        ({"match": "up_proj", "bits": 8}, "gate_proj, up_proj of model.layers.0.mlp are computed as one layer"),
        ({"match": "qkv_proj", "bits": 8}, "matches no layer"),
    ],
)
def test_what_no_engine_could_serve_or_no_layer_has_is_refused(rule: dict[str, Any], said_of_it: str) -> None:
    """Engines fuse some layers, so these need one treatment; a rule for no layer is a typo."""
    with pytest.raises(InputError) as caught:
        resolve(spec(rule), WIDTHS)
    assert said_of_it in str(caught.value)
    assert caught.value.remedy


def test_a_misspelt_name_to_ignore_is_refused() -> None:
    """A layer that should be spared would otherwise be quantized unnoticed."""
    with pytest.raises(InputError, match="matches no layer"):
        resolve(spec(ignore=("lm_head", "mlp.down")), WIDTHS)


def test_a_recipe_says_the_rules_as_they_were_written() -> None:
    """The manifest shows overrides in words that match the experiment."""
    assert said(spec({"match": "a", "bits": 8, "group_size": 32}, {"match": "b", "skip": True})) == {
        "ignore": ["lm_head"],
        "overrides": ["a: 8 bits, groups of 32", "b: original precision"],
    }


def test_a_group_that_no_kernel_has_is_resolved_downward_or_refused() -> None:
    """Sizes without a kernel fall to the next one that has, or are rejected with the widths."""
    rules = spec({"match": "q_proj|k_proj|v_proj", "group_size": 96})
    assert resolve(rules, WIDTHS)["model.layers.0.self_attn.q_proj"].group_size == 64
    assert "groups of 64 instead of 96" in group_notes(resolve(rules, WIDTHS), rules)[0]
    with pytest.raises(InputError, match="no group size up to 64 divides the widths"):
        resolve(spec({"match": "odd", "group_size": 64}), {"odd": 40})
