"""What a GPU proof measures: its experiments, its precisions, the price row of its machine. Pure but for reading tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenhour.contracts.config.bench import SearchSpec
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.config.model_quantize import is_shape
from tokenhour.contracts.config.prices import InstancePrice
from tokenhour.contracts.errors import InputError
from tokenhour.frontdoor.gpu_benchmark.time_budget import LONGEST_START_S, Work

SCHEMES = ("none", "fp8", "w8a8", "w4a16")
# bitsandbytes packs when it loads: there must be weights to pack.
WITH_WEIGHTS = ("bnb-int8", "bnb-nf4")
DEFAULT_MODEL = "shape:llama-3.1-8b"
MINUTES = {"full": 20.0, "quick": 8.0}
# On an H100: the engine's parser asked once 11 s, the machine's rates 3, imports and preflight; the calibration 28;
# rooflines, verdict and report 9 a mix.
CERTIFIED_S, CALIBRATION_S = 25.0, 30.0
AFTER_MIX_S = 15.0
# The engine says what it loaded: anything else would be measured under a wrong name.
_PACKED: set[str | None] = {"compressed-tensors"}
LOADED: dict[str, set[str | None]] = {
    "none": {None},
    **dict.fromkeys(("fp8", "w8a8", "w4a16"), _PACKED),
    **{key: {"bitsandbytes"} for key in WITH_WEIGHTS},
}
# No compilation, decoding still in CUDA graphs: a start of half a minute less. Headline figures need the engine's own mode.
QUICK_START = {"compilation-config": '{"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}'}
APIS = (
    {"model": "gpt-4o-mini", "host": "openai"},
    {"model": "llama-3.1-8b-instruct", "host": "bedrock"},
    {"model": "llama-3.1-8b-instruct", "host": "groq"},
    {"model": "llama-3.1-8b-instruct", "host": "novita"},
)


@dataclass(frozen=True, slots=True)
class RequestMix:
    """A mix of request lengths and its objective. Lengths vary by a quarter: equal ones would march in step."""

    name: str
    prompt_tokens: int
    output_tokens: int
    ttft_s: float
    tpot_s: float


CHAT = RequestMix("chat", 512, 256, 0.5, 0.05)
SUMMARISE = RequestMix("summarise", 2048, 128, 2.0, 0.05)


def on_a_cpu(mix: RequestMix) -> RequestMix:
    """Shorten a mix eightfold and loosen its objective: there the way is tried, and a percentile wants its 64 samples."""
    return RequestMix(mix.name, mix.prompt_tokens // 8, mix.output_tokens // 8, 4 * mix.ttft_s, 4 * mix.tpot_s)


@dataclass(frozen=True, slots=True)
class ProofRequest:
    """What the command line asked for, resolved."""

    model: str
    device: str
    quick: bool
    instance: InstancePrice

    @property
    def dummy(self) -> bool:
        """Without weights."""
        return is_shape(self.model)

    @property
    def mixes(self) -> tuple[RequestMix, ...]:
        """A quick proof measures the chat mix alone."""
        both = (CHAT, SUMMARISE) if self.device == "cuda" else tuple(map(on_a_cpu, (CHAT, SUMMARISE)))
        return both[:1] if self.quick else both

    @property
    def name(self) -> str:
        """Name the proof's own folder."""
        label = re.sub(r"[^a-z0-9.]+", "-", re.sub("^(shape|package):", "", self.model.rsplit("/", 1)[-1]).lower()).strip(
            "-."
        )
        return f"proof-{self.device}-{label or 'model'}{'-quick' if self.quick else ''}"


def schemes_for(wanted: ProofRequest) -> tuple[str, ...]:
    """List the precisions; those of bitsandbytes need weights."""
    return SCHEMES if wanted.dummy else (*SCHEMES, *WITH_WEIGHTS)


def work_of(wanted: ProofRequest, schemes: Sequence[str], *, certified: bool = False) -> Work:
    """Say what has to be done and what each thing is expected to take; `certified`: the generator's certificate is kept."""
    cuda = wanted.device == "cuda"
    # Measured there without compilation: 34 to 44 s, 162 for four, with the stop and the plots. With it: a guess.
    start = (41.0 if wanted.quick else 80.0) if cuda else 40.0
    # Saturated, the first prompts and answers of 512/256 take 8 s, those of 2048/128 more. Before that a window would hold
    # what all begin with.
    warmup, saturated = ((2.5, 8.0) if wanted.quick else (4.0, 12.0)) if cuda else (1.0, 1.0)
    before, after = CERTIFIED_S + (0.0 if certified else CALIBRATION_S), AFTER_MIX_S * len(wanted.mixes)
    return Work(
        len(schemes),
        len(wanted.mixes),
        start,
        before_s=before,
        after_s=after,
        warmup_s=warmup,
        saturation_warmup_s=saturated,
    )


def experiment(
    wanted: ProofRequest,
    mix: RequestMix,
    schemes: Sequence[str],
    search: SearchSpec,
    ready_timeout_s: float = LONGEST_START_S,
) -> Experiment:
    """Write the experiment of one mix. Mixes differ in their bench section alone, so that one server serves them all."""
    cuda = wanted.device == "cuda"
    serving: dict[str, Any] = {
        "device": wanted.device,
        "dummy_weights": wanted.dummy,
        "max_model_len": 4096,
        "max_num_seqs": 256 if cuda else 16,
        "ready_timeout_s": ready_timeout_s,
    }
    if not cuda:
        serving |= {"enforce_eager": True, "kv_cache_gib": 1}
    elif wanted.quick:
        serving |= {"engine_args": QUICK_START}
    row = wanted.instance
    return Experiment.model_validate(
        {
            "name": f"{wanted.name}-{mix.name}",
            "description": f"GPU proof: {wanted.model}, {mix.prompt_tokens} prompt and {mix.output_tokens} output tokens",
            "model": {"source": wanted.model},
            "schemes": list(schemes),
            # INT4 with a fixed zero: the format that the published figures are of.
            "quantize": {"symmetric": True} if wanted.dummy else {},
            "serving": serving,
            # Nobody but the generator asks: an ended measurement has nothing to wait for.
            "operations": {"drain_s": 0},
            "bench": {
                "workload": {"name": mix.name, "prompt": _around(mix.prompt_tokens), "output": _around(mix.output_tokens)},
                "slo": {"percentile": 90, "ttft_s": mix.ttft_s, "tpot_s": mix.tpot_s},
                "search": search.model_dump(),
            },
            "economics": {
                "hardware": row.instance,
                "cloud": row.cloud,
                "region": row.region,
                "apis": list(APIS),
            },
        }
    )


def _around(mean: int) -> dict[str, Any]:
    return {
        "distribution": "uniform",
        "mean_tokens": mean,
        "min_tokens": round(0.75 * mean),
        "max_tokens": round(1.25 * mean),
    }


def instance_of(accelerator: str, rows: Sequence[InstancePrice], said: str | None = None) -> InstancePrice:
    """Choose the price row of a machine: `said` as INSTANCE@CLOUD, else the cheapest with one such GPU.

    A GPU matches by its name's words: "NVIDIA H100 80GB HBM3" is an H100; a row such as A100-80 wants 80GB among them.
    """
    if said:
        name, _, cloud = said.partition("@")
        found = [row for row in rows if row.instance == name and cloud in ("", row.cloud)]
    else:
        words = set(accelerator.replace("-", " ").split())
        found = [row for row in rows if row.kind == "cuda" and row.accelerators == 1 and _is(row.accelerator, words)]
    priced = sorted((row for row in found if row.on_demand is not None), key=lambda row: row.on_demand or 0)
    if not priced:
        raise InputError(
            f"no price row for {said or accelerator}",
            where="configs/prices/instances.yaml",
            remedy="name one: --instance INSTANCE@CLOUD, or append a row with its source",
        )
    return priced[0]


def _is(row: str, words: set[str]) -> bool:
    name, _, memory = row.partition("-")
    return name in words and (not memory or f"{memory}GB" in words)
