"""Model-bandwidth and model-FLOP utilization: pure arithmetic on a summary, a model's shape and a machine's rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenhour.contracts.records.summary import LoadPoint, Summary
from tokenhour.contracts.standalone.roofline import MachineRates, MatrixType, RooflinePoint

# The operands of the large products. Weight-only schemes unpack to bf16 before they multiply.
MATRIX_TYPE: dict[str, MatrixType] = {"w8a8": "int8", "bnb-int8": "int8", "fp8": "fp8"}


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What a dense decoder reads and computes for a token, by its config."""

    layer_parameters: int
    """Of the linear layers of all decoder layers."""
    vocabulary_parameters: int
    """Of the layer that scores the vocabulary."""
    untied_table_bytes: int
    """Input embeddings that a step does not read as a whole (bf16); 0 where they are the scoring layer too."""
    attention_ops_per_position: float
    """Operations that a token spends on each position before it: scores and weighted sum, 2 operations each."""

    def weight_bytes_per_step(self, memory_bytes: int) -> int:
        """Return the bytes of weights that one decoding step reads, of a checkpoint of `memory_bytes`."""
        return max(0, memory_bytes - self.untied_table_bytes)


def model_cost(config: Mapping[str, Any]) -> ModelCost | None:
    """Read a dense decoder's config.json; None for mixtures of experts and other families, whose arithmetic differs.

    A layer has q (d x q), k and v (d x kv each), o (q x d) and a gated MLP (3 x d x m).
    """
    mixture = any(config.get(key) for key in ("num_experts", "num_local_experts", "n_routed_experts", "kv_lora_rank"))
    needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    if mixture or any(not config.get(key) for key in needed):
        return None
    width, inner, layers, heads, vocabulary = (int(config[key]) for key in needed)
    head = int(config.get("head_dim") or width // heads)
    kv = int(config.get("num_key_value_heads") or heads) * head
    layer = 2 * width * heads * head + 2 * width * kv + 3 * width * inner
    table = vocabulary * width
    return ModelCost(
        layer_parameters=layers * layer,
        vocabulary_parameters=table,
        untied_table_bytes=0 if config.get("tie_word_embeddings") else 2 * table,
        attention_ops_per_position=4.0 * layers * heads * head,
    )


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What served: bytes of one copy of the weights, KV bytes a token, engine copies, accelerators."""

    memory_bytes: int
    kv_bytes_per_token: int
    copies: int
    """Each reads the weights of its own."""
    accelerators: int


def point(
    found: LoadPoint, name: str, cost: ModelCost, served: ServedModel, lengths: tuple[float, float], rates: Rates
) -> RooflinePoint:
    """Put one load beside the rates. `lengths`: mean prompt and output tokens of a request.

    A step reads the weights once and every running sequence's keys and values. A sequence gets one token a step, so a
    step lasts the mean time per output token; the keys and values that an output token reads are those of the prompt
    and of half of its answer. Prompts are read in other steps or in the same ones: their weight reads are not counted,
    so the bandwidth figure is a lower bound. A prompt token attends to half of the prompt on average.
    """
    prompt, output = lengths
    context = prompt + output / 2
    step = found.tpot.mean_s
    weights = served.copies * cost.weight_bytes_per_step(served.memory_bytes) / step if step else None
    kv = found.output_tps * context * served.kv_bytes_per_token
    linear = 2.0 * cost.layer_parameters
    ops = found.input_tps * (linear + cost.attention_ops_per_position * prompt / 2) + found.output_tps * (
        linear + 2.0 * cost.vocabulary_parameters + cost.attention_ops_per_position * context
    )
    bandwidth = rates.copy_bytes_per_s * served.accelerators
    matrix = rates.matrix_ops_per_s * served.accelerators if rates.matrix_ops_per_s else None
    return RooflinePoint(
        point="peak" if name == "peak" else "at the SLO",
        probe=found.probe,
        input_tps=found.input_tps,
        output_tps=found.output_tps,
        step_s=step,
        weight_bytes_per_s=weights,
        kv_bytes_per_s=kv,
        bandwidth_utilization=(weights + kv) / bandwidth if weights is not None else None,
        model_ops_per_s=ops,
        ops_utilization=ops / matrix if matrix else None,
    )


@dataclass(frozen=True, slots=True)
class Rates:
    """One accelerator's measured rates, for the type that a scheme computes in."""

    copy_bytes_per_s: float
    matrix_ops_per_s: float | None


def rates_for(scheme: str, measured: MachineRates) -> tuple[MatrixType, Rates]:
    """Choose the matrix rate of `scheme`."""
    kind = MATRIX_TYPE.get(scheme, "bf16")
    rate = measured.matrix_ops_per_s.get(kind)
    return kind, Rates(measured.copy_bytes_per_s.value, rate.value if rate else None)


def points(summary: Summary, cost: ModelCost, served: ServedModel, rates: Rates) -> tuple[RooflinePoint, ...]:
    """Put the saturated load and the load at the SLO beside the rates."""
    lengths = (summary.mean_prompt_tokens, summary.mean_output_tokens)
    wanted = (("peak", summary.saturated_point()), ("at the SLO", summary.slo_point()))
    return tuple(point(found, name, cost, served, lengths, rates) for name, found in wanted if found is not None)
