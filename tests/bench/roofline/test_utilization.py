"""Utilizations by hand: a known model, known rates, and what no arithmetic is known for."""

from typing import Any

import pytest

from tests.breakeven import summaries
from tests.records import ACCELERATOR, WHEN
from tokenhour.bench.roofline.utilization import Rates, ServedModel, model_cost, point, points, rates_for
from tokenhour.contracts.record import Interval
from tokenhour.contracts.standalone.roofline import MachineRates

LLAMA_8B = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
}  # fmt: skip


def rates(**kinds: float) -> MachineRates:
    """Return a machine's record with these matrix rates."""
    found = {kind: Interval(value=value) for kind, value in kinds.items()}
    return MachineRates(
        accelerator=ACCELERATOR, device="cpu", copy_bytes_per_s=Interval(value=1e12), matrix_ops_per_s=found,
        absent={}, copied_bytes=1, matrix_size=1, torch="0", seconds=1.0, created_utc=WHEN,
    )  # fmt: skip


def test_a_models_cost_is_that_of_its_published_size() -> None:
    """Llama-3.1-8B has 8,030,261,248 parameters; 266,240 of them are norms."""
    cost = model_cost(LLAMA_8B)
    assert cost.layer_parameters + 2 * cost.vocabulary_parameters + 266_240 == 8_030_261_248
    assert cost.untied_table_bytes == 2 * 128256 * 4096
    assert cost.attention_ops_per_position == 4 * 32 * 4096
    tied = model_cost({**LLAMA_8B, "tie_word_embeddings": True})
    assert tied.untied_table_bytes == 0
    assert tied.weight_bytes_per_step(1000) == 1000


@pytest.mark.parametrize("strange", [{"num_local_experts": 8}, {"kv_lora_rank": 512}, {"hidden_size": None}])
def test_other_families_have_no_roofline(strange: dict[str, Any]) -> None:
    """For MoE, MLA and unknown shapes there is no figure rather than a wrong one."""
    assert model_cost({**LLAMA_8B, **strange}) is None


def test_both_utilizations_follow_from_their_definitions() -> None:
    """Weights read, KV cache read and operations add up by hand, for one copy and for two."""
    cost = model_cost(LLAMA_8B)
    served = ServedModel(memory_bytes=16_060_522_496, kv_bytes_per_token=131072, copies=1, accelerators=1)
    load = summaries.point(0, None, 5000.0, 1.0, met=None)  # 10,000 input tokens/s, tpot 0.07 s
    found = point(load, "peak", cost, served, (512.0, 256.0), Rates(3e12, 7e14))
    weights = (16_060_522_496 - 1_050_673_152) / 0.07
    kv = 5000 * (512 + 128) * 131072
    assert found.bandwidth_utilization == pytest.approx((weights + kv) / 3e12)
    linear = 2 * 6_979_321_856
    ops = 10_000 * (linear + 524288 * 256) + 5000 * (linear + 2 * 525_336_576 + 524288 * 640)
    assert found.model_ops_per_s == pytest.approx(ops)
    assert found.ops_utilization == pytest.approx(ops / 7e14)
    two = ServedModel(served.memory_bytes, served.kv_bytes_per_token, copies=2, accelerators=2)
    both = point(load, "peak", cost, two, (512.0, 256.0), Rates(3e12, 7e14))
    assert both.ops_utilization == pytest.approx(found.ops_utilization / 2)
    assert both.weight_bytes_per_s == pytest.approx(2 * weights)


def test_what_was_not_estimable_stays_absent() -> None:
    """Without TPOT or a matrix rate there is no utilization, never a zero."""
    cost = model_cost(LLAMA_8B)
    served = ServedModel(10**9, 131072, 1, 1)
    load = summaries.point(0, None, 10.0, 1.0, met=None)
    load = load.model_copy(update={"tpot": load.tpot.model_copy(update={"mean_s": None})})
    found = point(load, "peak", cost, served, (512.0, 256.0), Rates(1e12, None))
    assert (found.bandwidth_utilization, found.ops_utilization) == (None, None)


def test_the_points_are_the_peak_and_the_capacity_at_the_slo() -> None:
    """Both operating points are placed on the roofline; without a capacity just the peak."""
    served = ServedModel(10**9, 131072, 1, 1)
    found = points(summaries.summary(), model_cost(LLAMA_8B), served, Rates(1e12, 1e13))
    assert [(p.point, p.probe) for p in found] == [("peak", 0), ("at the SLO", 1)]
    none = summaries.summary(highest_passing_rps=None, at_slo=None)
    assert [p.point for p in points(none, model_cost(LLAMA_8B), served, Rates(1e12, 1e13))] == ["peak"]


@pytest.mark.parametrize(("scheme", "kind"), [("none", "bf16"), ("w4a16", "bf16"), ("w8a8", "int8"), ("fp8", "fp8")])
def test_each_scheme_is_held_against_the_type_it_multiplies_in(scheme: str, kind: str) -> None:
    """Weight-only schemes compute in bf16, so the integer rate would understate them."""
    found, chosen = rates_for(scheme, rates(bf16=1.0, int8=2.0, fp8=3.0))
    assert found == kind
    assert chosen.matrix_ops_per_s == {"bf16": 1.0, "int8": 2.0, "fp8": 3.0}[kind]
    assert rates_for("fp8", rates(bf16=1.0))[1].matrix_ops_per_s is None
