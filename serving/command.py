"""From experiment and manifest to the engine's argv and environment: a pure function, so that it can be read and tested."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from contracts.checkpoint import Checkpoint
from contracts.errors import InputError
from contracts.experiment import Experiment

# vLLM's own console script fails for the CPU distribution; its module is the way in that both builds have.
MODULE = "vllm.entrypoints.openai.api_server"
_ON_CPUS = "w8a8 or bnb-int8 for 8 bits, gptq-int4, w4a16 or bnb-nf4 for 4"
NO_KERNEL = {"cpu": {"gptq-int8": _ON_CPUS, "fp8": _ON_CPUS}}
_RESERVED = frozenset(
    {"model", "host", "port", "served-model-name", "api-key", "trust-remote-code", "max-model-len", "max-num-seqs"}
)


@dataclass(frozen=True, slots=True)
class Launch:
    """What is started: `argv`, and the variables that are added to the inherited environment."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    base_url: str
    model_id: str


def plan(experiment: Experiment, checkpoint: Checkpoint, device: str, cpus: int, port: int, python: str) -> Launch:
    """Return the launch of `checkpoint` on `device` ("cpu" or "cuda") at a definite `port`.

    Raises InputError for a scheme that the device has no kernel for, and for an engine argument that the experiment
    has a field of its own for.
    """
    refuse_without_kernel(checkpoint.scheme, device)
    serving = experiment.serving
    model_id = f"{checkpoint.model_name}-{checkpoint.scheme}"
    argv = (
        *(python, "-m", MODULE, "--model", checkpoint.path, "--served-model-name", model_id),
        *("--host", serving.host, "--port", str(port)),
        *("--max-model-len", str(serving.max_model_len), "--max-num-seqs", str(serving.max_num_seqs)),
        *("--seed", "0", "--disable-uvicorn-access-log"),
        "--enable-prefix-caching" if serving.prefix_caching else "--no-enable-prefix-caching",
        *(("--enforce-eager",) if serving.enforce_eager else ()),
        *(("--trust-remote-code",) if experiment.model.trust_remote_code else ()),
        *_device_arguments(experiment, device),
        *_free_arguments(serving.engine_args),
    )
    host = f"[{serving.host}]" if ":" in serving.host else serving.host
    return Launch(argv, _environment(experiment, device, cpus), f"http://{host}:{port}", model_id)


def refuse_without_kernel(scheme: str, device: str) -> None:
    """Raise InputError when vLLM has no kernel for `scheme` on `device`, naming the ones that have."""
    instead = NO_KERNEL.get(device, {}).get(scheme)
    if instead:
        raise InputError(f"vLLM has no kernel for {scheme} on {device}", where="schemes", remedy=f"use {instead}")


def _device_arguments(experiment: Experiment, device: str) -> tuple[str, ...]:
    serving = experiment.serving
    if device == "cpu":
        return ("--dtype", "bfloat16")
    return (
        *("--gpu-memory-utilization", str(serving.gpu_memory_utilization)),
        *("--tensor-parallel-size", str(serving.tensor_parallel_size)),
    )


def _free_arguments(arguments: Mapping[str, str | float | bool]) -> tuple[str, ...]:
    words: list[str] = []
    for key, value in sorted(arguments.items()):
        name = key.replace("_", "-").lstrip("-")
        if name in _RESERVED:
            raise InputError(
                f"{key} is set by a field of its own",
                where=f"serving.engine_args.{key}",
                remedy="use that field instead",
            )
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}", str(value)]
    return tuple(words)


def _environment(experiment: Experiment, device: str, cpus: int) -> dict[str, str]:
    # Weights are local by now: the engine has no business on a network.
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if device != "cpu":
        return quiet
    return quiet | {
        # `auto` keeps a core free on small machines: 1.3x slower at one stream, 1.55x at sixteen.
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{cpus - 1}" if cpus > 1 else "0",
        "VLLM_CPU_KVCACHE_SPACE": str(math.ceil(experiment.serving.kv_cache_gib)),
    }
