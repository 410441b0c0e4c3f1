"""The `model`, `schemes` and `quantize` sections of an experiment: which weights, how they shrink, how loss is measured."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tokenhour.contracts.record import Count, Part, Positive, is_recorded

SCHEMES = {
    "none": "the original weights, bf16",
    "w8a8": "INT8 weights and activations, SmoothQuant + GPTQ (llm-compressor, compressed-tensors)",
    "w4a16": "INT4 weights, 16-bit activations, AutoRound or GPTQ (auto-round, llm-compressor, compressed-tensors)",
    "fp8": "FP8 weights and activations, no calibration (llm-compressor, compressed-tensors); for GPUs that have it",
    "gptq-int4": "INT4 weights, GPTQ (GPTQModel, the auto-gptq format)",
    "gptq-int8": "INT8 weights, GPTQ (GPTQModel, the auto-gptq format); no vLLM kernel on CPUs",
    "bnb-int8": "INT8 weights, LLM.int8(), no calibration (bitsandbytes)",
    "bnb-nf4": "4-bit NormalFloat weights, no calibration (bitsandbytes)",
}

GROUP_SIZES = (128, 64, 32, 16)
"""What the quantizers pack and vLLM computes: Marlin, on GPUs, has 32 to 128; 16 is left to Exllama and to CPUs."""

SHAPE = "shape:"
"""How a model source begins that is a published model's shape, without weights."""


def is_shape(source: str) -> bool:
    """Tell whether a model source names a shape."""
    return source.startswith(SHAPE)


def _regular(value: str) -> None:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from error


def _kernel_has(value: int | None, info: ValidationInfo) -> None:
    if value is not None and value < GROUP_SIZES[-1] and not is_recorded(info):
        raise ValueError(f"groups of {value} have no kernel: use one of {', '.join(map(str, sorted(GROUP_SIZES)))}")


class ModelSpec(Part):
    """Which weights. `source` has five forms, told apart by how it begins."""

    source: str
    """`package:NAME[/FILE.gguf]` (a GGUF inside an installed package), `./folder` (safetensors), `./file.gguf`, a hub
    repository `owner/name`, or `shape:NAME` (a published model's shape, with serving.dummy_weights)."""
    revision: str | None = None
    """A hub revision; pin a commit for anything you publish. Ignored for packages and folders."""
    trust_remote_code: bool = False
    """Run Python that comes with the weights. Off unless you have read it."""

    @field_validator("source")
    @classmethod
    def _known_form(cls, value: str) -> str:
        if value.startswith(("package:", SHAPE, "./", "../", "/", "~")) or re.fullmatch(r"[\w.-]+/[\w.-]+", value):
            return value
        raise ValueError("is neither package:NAME, nor a folder (./…, /…), nor a hub repository owner/name")


class TextSpec(Part):
    """Text as windows of tokens. The last third of a text is for evaluation, the rest for calibration."""

    source: str = "bundled"
    """`bundled` (Python's own documentation topics, PSF licence), a text file, a .jsonl file, or `hub:owner/dataset`.
    A row holds `field`, or a conversation in `messages`, or a `prompt`; the last two go through the chat template."""
    field: str = "text"
    """Field of a row that holds plain text."""
    revision: str | None = None
    """Of a hub dataset; pin a commit for anything you publish."""
    subset: str | None = None
    """Of a hub dataset that has several."""
    split: str = "train"
    """Of a hub dataset."""
    rows: Count = 5000
    """First rows that are read of a hub dataset."""
    windows: Count = 32
    """Number of token windows."""
    window_tokens: Annotated[int, Field(ge=16)] = 512
    """Tokens a window."""


class CalibrationSpec(TextSpec):
    """Text that the quantizer sees. Windows that share a passage with the evaluation text are passed over."""

    seed: int = 0
    """Chooses the windows."""


class EvaluationSpec(TextSpec):
    """Held-out text on which quality loss against the original is measured."""

    windows: Count = 24
    """Number of token windows; the bootstrap interval is over windows."""


class QualityGate(Part):
    """The quality that a checkpoint must keep to PASS."""

    max_mean_kl_divergence: Positive | None = None
    """Nats a token against the original."""
    max_perplexity_ratio: Positive | None = None
    """Quantized over original."""


class TasksSpec(Part):
    """Tasks of lm-eval, asked of the original and of the quantized weights. Needs the extra `lm-eval`."""

    names: tuple[str, ...] = ()
    """Such as arc_easy or hellaswag; their data come from a hub unless `folder` brings both."""
    folder: str | None = None
    """More task files in lm-eval's YAML."""
    limit: Count = 100
    """Most documents a task."""
    shots: Annotated[int, Field(ge=0)] = 0


class LayerOverride(Part):
    """Settings of the layers whose name matches a regular expression; the first that matches counts."""

    match: str
    """Searched in the layer's name, such as `model.layers.0.mlp.down_proj`."""
    skip: bool = False
    """Leave them in their original precision."""
    bits: Literal[4, 8] | None = None
    """gptq-int4, gptq-int8 and w4a16 only."""
    group_size: Count | None = None
    """gptq-int4, gptq-int8 and w4a16 only."""

    @field_validator("match")
    @classmethod
    def _compiles(cls, value: str) -> str:
        _regular(value)
        return value

    @field_validator("group_size")
    @classmethod
    def _has_a_kernel(cls, value: int | None, info: ValidationInfo) -> int | None:
        _kernel_has(value, info)
        return value

    @model_validator(mode="after")
    def _says_something(self) -> LayerOverride:
        if self.skip == (self.bits is not None or self.group_size is not None):
            raise ValueError("give either skip: true, or bits or group_size")
        return self


class QuantizeSpec(Part):
    """How the weights become small, and how the loss is measured."""

    calibration: CalibrationSpec = CalibrationSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    group_size: Count = 128
    """Weights that share a scale (INT4, gptq-int8): 16, 32, 64 or 128. Any other, and one that does not divide the model's
    widths, is resolved to the largest of these below that does."""
    symmetric: bool | None = None
    """Whether zero is fixed; absent: the scheme's own default. w4a16 has both."""
    act_order: bool = True
    """GPTQ: round the columns with the largest activations first, in an order that costs the engine nothing."""
    scale_search: bool = True
    """GPTQ of gptq-int4 and w4a16: choose each group's scale by the least error, not by its extremes. Costs time, no bytes;
    docs/quantize-tried.md has what it gains."""
    dampening: Annotated[float, Field(gt=0, lt=1)] | None = None
    """GPTQ: share of the mean Hessian diagonal that is added to it; absent: the scheme's own default."""
    w8a8_method: Literal["smoothquant-gptq", "smoothquant", "gptq", "round-to-nearest"] = "smoothquant-gptq"
    w4a16_method: Literal["autoround", "gptq"] | None = None
    """AutoRound learns the rounding. Absent: AutoRound where it was tried and can learn the model (docs/quantize.md), else
    GPTQ; GPTQ too where one of its settings above is not the default."""
    ignore: tuple[str, ...] = ("lm_head",)
    """Layers left in their original precision: names, or `re:` and a regular expression. gptq-int4, gptq-int8 and
    AutoRound leave lm_head alone in any case, and say so."""
    overrides: tuple[LayerOverride, ...] = ()
    """Layers that are treated differently."""
    tasks: TasksSpec = TasksSpec()
    gate: QualityGate = QualityGate()

    @field_validator("group_size")
    @classmethod
    def _has_a_kernel(cls, value: int, info: ValidationInfo) -> int:
        _kernel_has(value, info)
        return value

    @field_validator("ignore")
    @classmethod
    def _compile(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            if item.startswith("re:"):
                _regular(item.removeprefix("re:"))
        return value
