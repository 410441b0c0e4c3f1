"""One experiment: the YAML that a person writes and the resolved record that a run keeps.

History
    1  first version
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from contracts.errors import nearest
from contracts.record import Part, Record
from contracts.store import sha256_of
from contracts.yamlfile import validate_yaml

SCHEMES = {
    "none": "the original weights, bf16",
    "w8a8": "INT8 weights and activations, SmoothQuant + GPTQ (llm-compressor, compressed-tensors)",
    "w4a16": "INT4 weights, 16-bit activations, GPTQ (llm-compressor, compressed-tensors)",
    "fp8": "FP8 weights and activations, no calibration (llm-compressor, compressed-tensors); for GPUs that have it",
    "gptq-int4": "INT4 weights, GPTQ (GPTQModel, the auto-gptq format)",
    "gptq-int8": "INT8 weights, GPTQ (GPTQModel, the auto-gptq format); no vLLM kernel on CPUs",
    "bnb-int8": "INT8 weights, LLM.int8(), no calibration (bitsandbytes)",
    "bnb-nf4": "4-bit NormalFloat weights, no calibration (bitsandbytes)",
}

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class ModelSpec(Part):
    """Which weights. `source` has four forms, told apart by how it begins."""

    source: str
    """`package:NAME[/FILE.gguf]` (a GGUF inside an installed package), `./folder` (safetensors), `./file.gguf`, or a hub
    repository `owner/name`."""
    revision: str | None = None
    """A hub revision; pin a commit for anything you publish. Ignored for packages and folders."""
    trust_remote_code: bool = False
    """Run Python that comes with the weights. Off unless you have read it."""

    @field_validator("source")
    @classmethod
    def _known_form(cls, value: str) -> str:
        if value.startswith(("package:", "./", "../", "/", "~")) or re.fullmatch(r"[\w.-]+/[\w.-]+", value):
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
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
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
    """Weights that share a scale (INT4, gptq-int8). One that does not divide the model's widths is resolved to the largest
    power of two below that does."""
    symmetric: bool | None = None
    """Whether zero is fixed; absent: the scheme's own default. w4a16 has both."""
    act_order: bool = True
    """GPTQ: round the columns with the largest activations first, in an order that costs the engine nothing."""
    dampening: Annotated[float, Field(gt=0, lt=1)] | None = None
    """GPTQ: share of the mean Hessian diagonal that is added to it; absent: the scheme's own default."""
    w8a8_method: Literal["smoothquant-gptq", "smoothquant", "gptq", "round-to-nearest"] = "smoothquant-gptq"
    ignore: tuple[str, ...] = ("lm_head",)
    """Layers left in their original precision: names, or `re:` and a regular expression."""
    overrides: tuple[LayerOverride, ...] = ()
    """Layers that are treated differently."""
    gate: QualityGate = QualityGate()


class ServingSpec(Part):
    """How vLLM runs. Binds to loopback."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes CUDA where a driver answers."""
    host: Literal["127.0.0.1", "::1", "localhost"] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0 takes a free port."""
    max_model_len: Count = 1024
    max_num_seqs: Count = 16
    """Most sequences that run at once."""
    kv_cache_gib: Positive = 1.0
    """KV-cache space on the CPU, GiB. On a GPU use gpu_memory_utilization."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.90
    enforce_eager: bool = False
    """Skip compilation: on a CPU a start of 30 s instead of 2 min."""
    prefix_caching: bool = False
    """Reuse of prompt prefixes; the workload must declare it, or the run is INVALID."""
    tensor_parallel_size: Count = 1
    ready_timeout_s: Positive = 600.0
    """How long the server may take to answer its first completion."""
    engine_args: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """More vLLM arguments, by their names without the leading dashes."""


class LengthSpec(Part):
    """Token lengths of prompts or outputs: `fixed`, `uniform` or `lognormal`, cut to [min, max]."""

    distribution: Literal["fixed", "uniform", "lognormal"] = "fixed"
    mean_tokens: Positive
    """The value itself for `fixed`; the mean before cutting for the others."""
    cv: NotNegative = 0.0
    """Coefficient of variation of `lognormal`."""
    min_tokens: Count = 1
    max_tokens: Count = 1_000_000

    @model_validator(mode="after")
    def _ordered(self) -> LengthSpec:
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}")
        if self.distribution != "fixed" and not self.min_tokens <= self.mean_tokens <= self.max_tokens:
            raise ValueError("mean_tokens is outside [min_tokens, max_tokens]")
        return self


class WorkloadSpec(Part):
    """What is asked of the server."""

    name: str = "chat"
    prompt: LengthSpec
    output: LengthSpec
    seed: int = 0
    """Chooses lengths, text and arrival times; a salt a run keeps a repeated seed out of the prefix cache."""
    declared_prefix_hit_rate: Fraction = 0.0
    """Share of prompt tokens that may come from the prefix cache; a measured rate above it is INVALID."""


class SloSpec(Part):
    """The latency objective, judged from the *scheduled* arrival. At least one bound is given."""

    percentile: Annotated[float, Field(ge=50, le=99.9)] = 90.0
    ttft_s: Positive | None = None
    """Time to first token."""
    tpot_s: Positive | None = None
    """Time per output token after the first."""
    e2e_s: Positive | None = None
    """Whole request."""

    @model_validator(mode="after")
    def _bounded(self) -> SloSpec:
        if self.ttft_s is None and self.tpot_s is None and self.e2e_s is None:
            raise ValueError("has no bound; give ttft_s, tpot_s or e2e_s")
        return self


class SearchSpec(Part):
    """How the SLO capacity is looked for."""

    saturation_s: Positive = 20.0
    """Length of the closed-loop probe that measures the peak."""
    probe_s: Positive = 20.0
    """Shortest steady window of one rate."""
    warmup_s: NotNegative = 3.0
    """Lead-in of each probe, kept apart from the statistics."""
    max_probes: Annotated[int, Field(ge=2)] = 6
    """Most open-loop rates tried."""
    max_probe_s: Positive = 60.0
    """Longest window; a rate too low to give the percentile its samples in it is not estimable."""
    precision: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Stop when the lowest failing rate is within this share of the highest passing one."""


class BenchSpec(Part):
    """The load and the objective."""

    workload: WorkloadSpec
    slo: SloSpec
    search: SearchSpec = SearchSpec()
    timeout_s: Positive = 120.0
    """Whole request."""
    inactivity_timeout_s: Positive = 30.0
    """Between two chunks."""
    telemetry_hz: Annotated[float, Field(gt=0, le=100)] = 10.0


class ApiChoice(Part):
    """One API row to compare with, by model and host; the row is chosen by date."""

    model: str
    host: str
    tokens_ratio: Positive = 1.0
    """Tokens of this API's tokenizer for one token of the served model's."""


class EconomicsSpec(Part):
    """What a month costs besides tokens. Amounts in USD a month unless the name says otherwise."""

    hardware: str
    """`instance` of a row in configs/prices/instances.yaml, such as c7i.large."""
    cloud: str = "aws"
    region: str | None = None
    purchase: Literal["on_demand", "spot", "reserved_1y", "reserved_3y"] = "on_demand"
    apis: Annotated[tuple[ApiChoice, ...], Field(min_length=1)]
    tokens_per_month: Positive = 1e9
    """Today's volume, input plus output, for the sentence "at your volume"."""
    headroom: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of the SLO capacity that is planned for."""
    redundancy: Annotated[int, Field(ge=0)] = 0
    """Spare replicas."""
    max_replicas: Count = 1000
    """Largest fleet that is thought of; a crossing beyond it is `beyond_capacity`."""
    ops_usd_per_month: NotNegative = 0.0
    engineering_usd_per_month: NotNegative = 0.0
    storage_usd_per_month: NotNegative = 0.0
    egress_usd_per_month: NotNegative = 0.0
    setup_usd: NotNegative = 0.0
    setup_months: Count = 36
    """Months over which set-up is spread."""
    batch_share: Fraction = 0.0
    """Share of requests that could go to the API's batch tier."""
    cached_share: Fraction = 0.0
    """Share of input tokens that the API would bill as cache reads."""
    on_date: str | None = None
    """ISO date of the prices; today when absent."""
    max_price_age_days: Count = 120
    """Older prices are flagged in the report."""


class Experiment(Record):
    """Model, schemes, serving, load and economics of one question."""

    file_name: ClassVar[str] = "experiment.json"
    record: Literal["experiment"] = "experiment"
    version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    """Lower case; the run folders are results/NAME-SCHEME and results/NAME."""
    description: str = ""
    model: ModelSpec
    schemes: Annotated[tuple[str, ...], Field(min_length=1)] = ("none",)
    """Precisions to compare; see `tokenhour quantize schemes`."""
    quantize: QuantizeSpec = QuantizeSpec()
    serving: ServingSpec = ServingSpec()
    bench: BenchSpec
    economics: EconomicsSpec

    @field_validator("schemes")
    @classmethod
    def _known_schemes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for scheme in value:
            if scheme not in SCHEMES:
                raise ValueError(f"unknown scheme {scheme!r}; {nearest(scheme, SCHEMES)}")
        if len(set(value)) != len(value):
            raise ValueError("names a scheme twice")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Experiment:
        load, limit = self.bench.workload, self.serving.max_model_len
        longest = _longest(load.prompt) + _longest(load.output)
        if longest > limit:
            raise ValueError(
                f"bench.workload asks for up to {longest} tokens, serving.max_model_len is {limit}; "
                "raise max_model_len or set max_tokens of prompt and output"
            )
        return self

    def run_name(self, scheme: str) -> str:
        """Name the run folder of one scheme."""
        return f"{self.name}-{scheme}"

    def section_sha256(self, *names: str) -> str:
        """Hash some sections, for lineage: a stage depends only on the sections that it reads."""
        return sha256_of({name: self.model_dump(mode="json")[name] for name in names})


def _longest(length: LengthSpec) -> int:
    return int(length.mean_tokens) if length.distribution == "fixed" else length.max_tokens


def load_experiment(path: Path) -> Experiment:
    """Read an experiment YAML (or a resolved experiment.json) and fill in the defaults.

    Raises InputError naming file:line, field, value and remedy.
    """
    return validate_yaml(Experiment, path)
