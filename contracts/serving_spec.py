"""The `serving` section of an experiment: how vLLM runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from contracts.numbers import Count, Positive
from contracts.record import Part


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
