"""Whether weights and KV cache fit, and how many sequences at once: arithmetic before anything is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenhour.contracts.config.serving import ServingSpec
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.units import BYTES_PER_GIB, human_bytes
from tokenhour.machine.kernel_support import has_kernel
from tokenhour.serving.launch.gpu_memory import GpuMemory

# Bytes a parameter, with the scales of groups of 128: what another precision would need.
BYTES_PER_PARAMETER = {
    "none": 2.0, "w8a8": 1.0, "fp8": 1.0, "gptq-int8": 1.03, "bnb-int8": 1.0,
    "w4a16": 0.53, "gptq-int4": 0.53, "bnb-nf4": 0.57,
}  # fmt: skip
_KV_BYTES = {"auto": 2, "bfloat16": 2, "float16": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}
# Interpreter, torch and the engine's own buffers, measured on the CPU build with a 135M model in one rank. Every further
# rank is a process with the same libraries.
_CPU_ENGINE_BYTES = int(2.0 * BYTES_PER_GIB)
# CUDA context, graphs and the activations of one step; an estimate, of which nothing is refused that fits without it.
_GPU_ENGINE_BYTES = int(1.5 * BYTES_PER_GIB)


@dataclass(frozen=True, slots=True)
class Budget:
    """What one replica needs on one accelerator, or all of them together on a CPU host, and what is there, bytes."""

    weight_bytes: int
    kv_bytes_per_token: int | None
    """None where the model's config does not tell (state-space layers and other caches)."""
    kv_bytes: int
    """Of one rank: what a sequence's tokens take of it is one rank's share too."""
    engine_bytes: int
    have_bytes: int
    max_model_len: int
    kv_caches: int = 1
    """How many ranks have such a cache in the memory that is there: on a CPU all ranks of all replicas, else one."""

    def needed_bytes(self) -> int:
        """Add everything up."""
        return self.weight_bytes + max(0, self.kv_bytes) * self.kv_caches + self.engine_bytes

    def concurrent_sequences(self) -> int | None:
        """Count the sequences of full length that fit at once; None where the model's config does not tell."""
        if not self.kv_bytes_per_token:
            return None
        return max(0, self.kv_bytes // (self.kv_bytes_per_token * self.max_model_len))

    def sentence(self) -> str:
        """Say it in a line."""
        each = f" in each of {self.kv_caches} processes" if self.kv_caches > 1 else ""
        kv = f"KV cache {human_bytes(max(0, self.kv_bytes))}{each}"
        if self.kv_bytes_per_token:
            kv += f" at {human_bytes(self.kv_bytes_per_token)} a token"
            kv += f": {self.concurrent_sequences()} sequences of {self.max_model_len} tokens at once"
        return f"weights {human_bytes(self.weight_bytes)}, {kv}, of {human_bytes(self.have_bytes)}"


def kv_bytes_per_token(config: Mapping[str, Any], dtype: str, tensor: int = 1, pipeline: int = 1) -> int | None:
    """Return the bytes that one token takes in one accelerator's KV cache; None where the config does not tell.

    2 (keys, values) x layers x KV heads x head size x bytes; with multi-head latent attention (DeepSeek) one latent
    vector and one rotary key a layer, not split by tensor parallelism. Layers are split by pipeline parallelism, KV heads
    by tensor parallelism, never below one head.
    """
    text = config.get("text_config", config)
    layers, heads = text.get("num_hidden_layers"), text.get("num_attention_heads")
    if not layers or not heads or "ssm_cfg" in text or "mamba_d_state" in text:
        return None
    size, depth = _KV_BYTES[dtype], math.ceil(layers / pipeline)
    if text.get("kv_lora_rank"):
        return int(depth * (text["kv_lora_rank"] + text.get("qk_rope_head_dim", 0)) * size)
    kv_heads = math.ceil((text.get("num_key_value_heads") or heads) / tensor)
    head_size = text.get("head_dim") or text["hidden_size"] // heads
    return int(2 * depth * kv_heads * head_size * size)


def head_size(config: Mapping[str, Any]) -> int | None:
    """Return the size of an attention head; None where the config does not tell, or attention is latent (DeepSeek)."""
    text = config.get("text_config", config)
    if text.get("kv_lora_rank") or not text.get("num_attention_heads") or not text.get("hidden_size"):
        return None
    return int(text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"])


def budget(checkpoint: Checkpoint, serving: ServingSpec, device: str, have_bytes: int) -> Budget:
    """Add up one replica on one accelerator. `have_bytes` is what may be used there."""
    per_token = kv_bytes_per_token(
        model_config(Path(checkpoint.path)),
        serving.kv_cache_dtype,
        serving.tensor_parallel_size,
        serving.pipeline_parallel_size,
    )
    ranks = serving.tensor_parallel_size * serving.pipeline_parallel_size
    weights = math.ceil((checkpoint.memory_bytes or checkpoint.weight_bytes) / ranks)
    if device == "cpu":
        # The weights are read, then repacked for the kernels: twice their size for a moment. All ranks share the host, and
        # vLLM gives each of them a KV cache of VLLM_CPU_KVCACHE_SPACE.
        processes = ranks * serving.replicas * serving.data_parallel_size
        kv = math.ceil(serving.kv_cache_gib) * int(BYTES_PER_GIB)
        engines = _CPU_ENGINE_BYTES * processes
        return Budget(2 * weights * processes, per_token, kv, engines, have_bytes, serving.max_model_len, processes)
    usable = int(have_bytes * serving.gpu_memory_utilization)
    kv = usable - weights - _GPU_ENGINE_BYTES
    if serving.gpu_kv_cache_gib is not None:
        kv = int(serving.gpu_kv_cache_gib * BYTES_PER_GIB)
    return Budget(weights, per_token, kv, 0, usable, serving.max_model_len)


def refuse(
    found: Budget, checkpoint: Checkpoint, serving: ServingSpec, device: str, capability: tuple[int, int] | None = None
) -> None:
    """Raise InputError, with what would fit, when weights and KV cache do not fit or not one sequence does."""
    if found.kv_bytes <= 0 or found.needed_bytes() > found.have_bytes:
        needed, have = human_bytes(found.needed_bytes()), human_bytes(found.have_bytes)
        raise InputError(
            f"about {needed} of memory are needed, {have} are free; {found.sentence()}",
            where="serving",
            remedy=_remedy(found, checkpoint, serving, device, capability),
        )
    if found.concurrent_sequences() == 0:
        fits = found.kv_bytes // (found.kv_bytes_per_token or 1)
        raise InputError(
            f"the KV cache holds {fits} tokens, fewer than one sequence of serving.max_model_len = {found.max_model_len}",
            where="serving.max_model_len",
            remedy=f"set it to at most {fits}, "
            + ("raise serving.kv_cache_gib" if device == "cpu" else "use a smaller precision or more GPUs a replica"),
        )


def refuse_held(gpus: Sequence[GpuMemory], serving: ServingSpec) -> None:
    """Raise InputError for the first GPU of which others hold so much that vLLM would not start.

    gpu_memory_utilization is a share of the GPU's whole memory, and vLLM wants all of that share to be free.
    """
    for gpu in gpus:
        asked = serving.gpu_memory_utilization * gpu.total_bytes
        if gpu.free_bytes >= asked:
            continue
        most = math.floor(100 * gpu.free_bytes / gpu.total_bytes) / 100
        lower = f", or set it to at most {most:.2f}" if most else ""
        raise InputError(
            f"vLLM wants {serving.gpu_memory_utilization:.0%} of GPU {gpu.name}'s {human_bytes(gpu.total_bytes)}, "
            f"{human_bytes(asked)}, and {human_bytes(gpu.free_bytes)} are free: something else holds memory there",
            where="serving.gpu_memory_utilization",
            remedy=f"stop what holds it (`tokenhour serving scan` and nvidia-smi show it){lower}",
        )


def _remedy(
    found: Budget, checkpoint: Checkpoint, serving: ServingSpec, device: str, capability: tuple[int, int] | None
) -> str:
    fitting = [
        name
        for name, size in BYTES_PER_PARAMETER.items()
        if _would_fit(size * checkpoint.parameters, found, serving, device)
        and has_kernel(name, device, capability=capability)
    ]
    smaller = f"quantize further ({', '.join(fitting)} would fit)" if fitting else "use a smaller model"
    if device != "cpu":
        return f"raise serving.tensor_parallel_size, or {smaller}"
    sizes = ("replicas", "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    several = [f"serving.{name}" for name in sizes if getattr(serving, name) > 1]
    lower = " or ".join(["serving.kv_cache_gib", *several])
    return f"lower {lower}, close other programs, or {smaller}"


def _would_fit(weight_bytes: float, found: Budget, serving: ServingSpec, device: str) -> bool:
    """Tell whether other weights of that many bytes would fit where those of `found` do not, with at least one sequence."""
    if device == "cpu":
        weights = 2 * weight_bytes * serving.replicas * serving.data_parallel_size
        rest = found.kv_bytes * found.kv_caches + found.engine_bytes
    else:
        weights = weight_bytes / (serving.tensor_parallel_size * serving.pipeline_parallel_size)
        one = (found.kv_bytes_per_token or 0) * found.max_model_len
        fixed = found.kv_bytes if serving.gpu_kv_cache_gib is not None else 0
        rest = _GPU_ENGINE_BYTES + max(one, fixed)
    return weights < found.weight_bytes and weights + rest <= found.have_bytes


def model_config(folder: Path) -> dict[str, Any]:
    """Return the model's config.json; empty where it cannot be read (the engine will say why)."""
    try:
        found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return found
