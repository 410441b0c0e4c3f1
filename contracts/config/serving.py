"""The `serving` section of an experiment: how vLLM runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tokenhour.contracts.record import Count, Part, Positive

KvCacheDtype = Literal["auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"]


class ServingSpec(Part):
    """How vLLM runs: what a measurement depends on. Binds to loopback unless told otherwise."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: what the installed engine is built for (`make setup` picks by the driver); a CPU build on a GPU host warns."""
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """An address that is not loopback requires `operations.api_key_env`."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0 takes a free port."""
    replicas: Count = 1
    """Engines behind one address: one for each group of GPUs, or of the CPU's cores."""
    max_model_len: Count = 1024
    max_num_seqs: Count = 16
    """Most sequences that run at once, in one replica."""
    max_num_batched_tokens: Count | None = None
    """Most tokens in one step; absent: the engine's own default."""
    kv_cache_dtype: KvCacheDtype = "auto"
    """On a CPU, FP8 needs AVX-512 or AMX."""
    kv_cache_gib: Positive = 1.0
    """KV-cache space on the CPU, GiB; each rank of a replica has as much."""
    gpu_kv_cache_gib: Positive | None = None
    """KV-cache space of each GPU, GiB; absent: what gpu_memory_utilization leaves."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.90
    enforce_eager: bool = False
    """Skip compilation: on a CPU a start of 30 s instead of 2 min."""
    prefix_caching: bool = False
    """Reuse of prompt prefixes; the workload must declare it, or the run is INVALID."""
    chunked_prefill: bool | None = None
    """Prompts in pieces between decode steps; absent: the engine's own default."""
    tensor_parallel_size: Count = 1
    pipeline_parallel_size: Count = 1
    data_parallel_size: Count = 1
    """vLLM's own data parallelism: engine copies that start, stop and fail together. `replicas` fail one by one."""
    executor: Literal["auto", "mp", "ray"] = "auto"
    """`ray` spreads one replica over several nodes; Ray must be in the engine's environment."""
    dummy_weights: bool = False
    """Random weights of the right shape: speed without a download. The run is synthetic, and says so."""
    seed: Annotated[int, Field(ge=0)] = 0
    ready_timeout_s: Positive = 600.0
    """How long the server may take to answer its first completion."""
    engine_args: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """More vLLM arguments, by their names without the leading dashes; checked against the installed engine's own."""

    def gpus_per_replica(self) -> int:
        """Count the GPUs that one replica takes."""
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.data_parallel_size
