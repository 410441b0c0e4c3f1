"""`shape:NAME`: a published model's exact shape without its weights, for measuring speed where weights cannot be had.

The engine fills in random weights (`serving.dummy_weights`): sound for throughput and memory, silent about quality.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.config.model_quantize import SHAPE, is_shape
from tokenhour.contracts.errors import InputError, nearest
from tokenhour.contracts.io.atomic_io import atomic_folder, sha256_file, sha256_of
from tokenhour.contracts.records.checkpoint import Checkpoint, SourceRecord
from tokenhour.machine.run_folder import now_utc
from tokenhour.quantize.scheme_table import group_note, resolve_group_size
from tokenhour.quantize.source.synthetic_tokenizer import write_tokenizer

NOTE = "No weights: the engine fills in random ones of this shape. Says nothing of quality."
WITHOUT_WEIGHTS = ("none", "fp8", "w8a8", "w4a16")
_VERSION = 1  # raise it when the same shape and scheme would give other files
_ROPE = {
    "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192, "rope_type": "llama3",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PublishedShape:
    """A dense decoder, with the parameter count that its publisher states: a shape that adds up to another is an error."""

    family: str
    """`llama` or `qwen2`, as in config.json."""
    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    positions: int
    parameters: int
    rope_theta: float
    rope_scaling: dict[str, Any] | None = None
    norm_eps: float = 1e-5
    qkv_bias: bool = False

    @property
    def head(self) -> int:
        """Size of a head."""
        return self.width // self.heads

    def linears(self) -> dict[str, tuple[int, int]]:
        """Return a layer's linear layers as (outputs, inputs)."""
        kv = self.kv_heads * self.head
        return {
            "q_proj": (self.width, self.width),
            "k_proj": (kv, self.width),
            "v_proj": (kv, self.width),
            "o_proj": (self.width, self.width),
            "gate_proj": (self.inner, self.width),
            "up_proj": (self.inner, self.width),
            "down_proj": (self.width, self.inner),
        }

    def count(self) -> tuple[int, int]:
        """Return (parameters of the layers' linear weights, all others: embeddings, scoring layer, norms, biases)."""
        linear = self.layers * sum(out * inputs for out, inputs in self.linears().values())
        biases = self.layers * (self.width + 2 * self.kv_heads * self.head) if self.qkv_bias else 0
        return linear, 2 * self.vocabulary * self.width + (2 * self.layers + 1) * self.width + biases


SHAPES = {
    "llama-3.1-8b": PublishedShape("llama", 4096, 14336, 32, 32, 8, 128256, 131072, 8_030_261_248, 5e5, _ROPE),
    "llama-3.1-70b": PublishedShape("llama", 8192, 28672, 80, 64, 8, 128256, 131072, 70_553_706_496, 5e5, _ROPE),
    "qwen2.5-7b": PublishedShape(
        "qwen2", 3584, 18944, 28, 28, 4, 152064, 32768, 7_615_616_512, 1e6, None, 1e-6, qkv_bias=True
    ),
    # No published model: small enough to try the whole way of a shape on two CPU cores.
    "tiny": PublishedShape("llama", 256, 512, 2, 4, 2, 4096, 4096, 3_278_080, 1e4),
}


def shape_of(source: str) -> PublishedShape:
    """Return the shape that `shape:NAME` names; InputError for an unknown one."""
    name = source.removeprefix(SHAPE)
    if name not in SHAPES:
        raise InputError(f"unknown shape {name!r}", where="model.source", remedy=nearest(name, SHAPES))
    return SHAPES[name]


def config_of(shape: PublishedShape) -> dict[str, Any]:
    """Write the shape's config.json."""
    name = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}[shape.family]
    found: dict[str, Any] = {
        "architectures": [name],
        "model_type": shape.family,
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": shape.vocabulary - 2,
        "eos_token_id": shape.vocabulary - 1,
    }
    return found | ({"rope_scaling": dict(shape.rope_scaling)} if shape.rope_scaling else {})


def quantization_of(scheme: str, group_size: int, *, symmetric: bool) -> dict[str, Any] | None:
    """Return the quantization_config that a checkpoint of this scheme carries (compressed-tensors); None for bf16.

    Raises InputError for a scheme that cannot be had without weights.
    """
    refuse_without_weights(scheme)
    if scheme == "none":
        return None
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
    tokens: dict[str, Any] | None = {**weights, "strategy": "token", "dynamic": True}
    if scheme == "fp8":
        kind, weights, tokens = "float-quantized", {**weights, "type": "float"}, {**(tokens or {}), "type": "float"}
    elif scheme == "w8a8":
        kind = "int-quantized"
    else:
        kind, tokens = "pack-quantized", None
        weights |= {"num_bits": 4, "strategy": "group", "group_size": group_size, "symmetric": symmetric}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": tokens, "output_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": kind,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "config_groups": {"group_0": group},
    }


def refuse_without_weights(scheme: str) -> None:
    """Raise InputError for a scheme whose loader looks at weight files: without them it would silently serve bf16."""
    if scheme not in WITHOUT_WEIGHTS:
        raise InputError(
            f"{scheme} cannot be had as a shape: its loader reads weight files",
            where="schemes",
            remedy=f"use {', '.join(WITHOUT_WEIGHTS)}, or a model with weights",
        )


def memory_bytes(shape: PublishedShape, scheme: str, group_size: int, *, symmetric: bool) -> int:
    """Return the bytes of the tensors that a checkpoint of this scheme would hold; scales are bf16."""
    linear, other = shape.count()
    outputs = shape.layers * sum(out for out, _ in shape.linears().values())
    packed = {
        "none": 2.0 * linear,
        "fp8": linear + 2.0 * outputs,
        "w8a8": linear + 2.0 * outputs,
        "w4a16": linear * (0.5 + (2.0 if symmetric else 2.5) / group_size),
    }
    return round(packed[scheme] + 2 * other)


def shape_inputs(source: str) -> dict[str, str]:
    """Return what a checkpoint depends on beyond its sections: the shape's own definition; nothing for other sources."""
    return {"shape": sha256_of([_VERSION, config_of(shape_of(source))])} if is_shape(source) else {}


def make_shape(experiment: Experiment, scheme: str, folder: Path, inputs: dict[str, str]) -> Checkpoint:
    """Write config, tokenizer and manifest of a shape into `folder` and return the manifest."""
    source, spec = experiment.model.source, experiment.quantize
    shape, symmetric = shape_of(source), spec.symmetric is not False
    group = resolve_group_size(spec.group_size, _inputs(shape))
    config = config_of(shape)
    quantization = quantization_of(scheme, group, symmetric=symmetric)
    if quantization:
        config["quantization_config"] = quantization
    size = memory_bytes(shape, scheme, group, symmetric=symmetric)
    with atomic_folder(folder) as part:
        (part / "config.json").write_text(json.dumps(config, indent=1))
        ids = {key: config[key] for key in ("bos_token_id", "eos_token_id")}
        (part / "generation_config.json").write_text(json.dumps(ids))
        write_tokenizer(part, shape.vocabulary, shape.positions)
        files = sorted(file for file in part.iterdir() if file.is_file())
        manifest = Checkpoint(
            scheme=scheme,
            model_name=source.removeprefix(SHAPE),
            path=str(folder.resolve()),
            source=SourceRecord(source=source, files={}, note=NOTE),
            recipe={"method": "shape without weights", "weights": "dummy", "group_size": group, "symmetric": symmetric},
            notes=(
                "no weight files: bytes are those that this shape would take in this precision",
                *group_note(scheme, spec.group_size, group, _inputs(shape)),
            ),
            calibration=None,
            parameters=shape.parameters,
            bits_per_weight=size * 8 / shape.parameters,
            weight_bytes=size,
            total_bytes=sum(file.stat().st_size for file in files),
            memory_bytes=size,
            quantize_seconds=0.0,
            peak_rss_bytes=0,
            tool_versions={},
            files={file.name: sha256_file(file) for file in files},
            quality=None,
            inputs=inputs,
            created_utc=now_utc(),
        )
        manifest.write(part)
    return manifest


def _inputs(shape: PublishedShape) -> tuple[int, ...]:
    return tuple(inputs for _, inputs in shape.linears().values())
