"""From experiment and manifest to the engine's argv and environment: a pure function, so that it can be read and tested."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.config.serving import ServingSpec
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.units import BYTES_PER_GIB
from tokenhour.machine.kernel_support import refuse_without_kernel

# vLLM's own console script fails for the CPU distribution; its module is the way in that both builds have.
MODULE = "vllm.entrypoints.openai.api_server"
PLUGIN = Path(__file__).resolve().parents[2] / "deploy/engine_plugin"
_BF16_FROM = (8, 0)
# Model types that vLLM refuses in float16 (they overflow); vllm/config/model.py has the list.
_NEVER_HALF = frozenset({"gemma2", "gemma3", "gemma3_text", "glm4"})
# Engine arguments that a field of the experiment stands for.
RESERVED = {
    "model": "model.source",
    "host": "serving.host",
    "port": "serving.port",
    "served-model-name": "model.source",
    "api-key": "operations.api_key_env",
    "ssl-keyfile": "operations.tls_key",
    "ssl-certfile": "operations.tls_certificate",
    "trust-remote-code": "model.trust_remote_code",
    "max-model-len": "serving.max_model_len",
    "max-num-seqs": "serving.max_num_seqs",
    "max-num-batched-tokens": "serving.max_num_batched_tokens",
    "kv-cache-dtype": "serving.kv_cache_dtype",
    "kv-cache-memory-bytes": "serving.gpu_kv_cache_gib",
    "gpu-memory-utilization": "serving.gpu_memory_utilization",
    "enforce-eager": "serving.enforce_eager",
    "enable-prefix-caching": "serving.prefix_caching",
    "enable-chunked-prefill": "serving.chunked_prefill",
    "tensor-parallel-size": "serving.tensor_parallel_size",
    "pipeline-parallel-size": "serving.pipeline_parallel_size",
    "data-parallel-size": "serving.data_parallel_size",
    "distributed-executor-backend": "serving.executor",
    "load-format": "serving.dummy_weights",
    "seed": "serving.seed",
    "enable-sleep-mode": "operations.idle.policy",
    "shutdown-timeout": "operations.drain_s",
}
# Engine arguments that no experiment may set: why, and what to do.
REFUSED = {
    "hf-token": ("a token would stand in argv, in server.json and in `ps`", "export HF_TOKEN"),
    "config": ("its file could set what fields of the experiment stand for", "write its options as serving.engine_args"),
}


@dataclass(frozen=True, slots=True)
class Weights:
    """What of a checkpoint decides its command."""

    path: str
    """The checkpoint's folder, as the engine sees it."""
    scheme: str
    model_name: str

    @property
    def model_id(self) -> str:
        """The `model` that requests must name."""
        return f"{self.model_name}-{self.scheme}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one replica runs: its device, its share of it, its address."""

    device: str
    """`cpu` or `cuda`."""
    port: int
    host: str = "127.0.0.1"
    cpus: tuple[int, ...] = (0,)
    """Core numbers, for a CPU engine."""
    gpus: tuple[str, ...] | None = None
    """CUDA_VISIBLE_DEVICES; None leaves all."""
    capability: tuple[int, int] | None = None
    """The GPUs' compute capability; None where it is not known."""
    sleep_mode: bool = False
    """Admin endpoints for sleeping are wanted: only ever on a loopback address behind the front."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What is started: `argv`, and the variables that are added to the inherited environment.

    `secrets` are added too, and are never recorded, logged or shown.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    base_url: str
    model_id: str
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def plan(
    experiment: Experiment, weights: Weights, place: Place, python: str, secrets: Mapping[str, str] | None = None
) -> Launch:
    """Return the launch of `weights` at `place` with the engine's interpreter `python`.

    Raises InputError for a scheme that the device has no kernel for, and for an engine argument that the experiment
    has a field of its own for.
    """
    refuse_without_kernel(weights.scheme, place.device, flags=())  # the machine's own were looked at before
    argv = (
        *(python, "-m", MODULE, "--model", weights.path, "--served-model-name", weights.model_id),
        *("--host", place.host, "--port", str(place.port)),
        *_model_arguments(experiment, place),
        *free_arguments(experiment.serving.engine_args),
    )
    return Launch(argv, _environment(experiment, place), base_url(place.host, place.port), weights.model_id, secrets or {})


def base_url(host: str, port: int, scheme: str = "http") -> str:
    """Write an address as a URL; IPv6 gets its brackets."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _model_arguments(experiment: Experiment, place: Place) -> tuple[str, ...]:
    """Write every field of the experiment as the engine's argument; absent fields leave the engine's own default."""
    serving = experiment.serving
    words = ["--max-model-len", str(serving.max_model_len), "--max-num-seqs", str(serving.max_num_seqs)]
    words += ["--seed", str(serving.seed), "--disable-uvicorn-access-log"]
    words += ["--enable-prefix-caching" if serving.prefix_caching else "--no-enable-prefix-caching"]
    if serving.max_num_batched_tokens is not None:
        words += ["--max-num-batched-tokens", str(serving.max_num_batched_tokens)]
    if serving.chunked_prefill is not None:
        words += ["--enable-chunked-prefill" if serving.chunked_prefill else "--no-enable-chunked-prefill"]
    if serving.kv_cache_dtype != "auto":
        words += ["--kv-cache-dtype", serving.kv_cache_dtype]
    words += ["--enforce-eager"] if serving.enforce_eager else []
    words += ["--load-format", "dummy"] if serving.dummy_weights else []
    words += ["--trust-remote-code"] if experiment.model.trust_remote_code else []
    words += ["--shutdown-timeout", str(experiment.operations.drain_s)] if experiment.operations.drain_s else []
    words += ["--enable-sleep-mode"] if place.sleep_mode else []
    return (*words, *_parallel_arguments(serving), *_device_arguments(serving, place))


def _parallel_arguments(serving: ServingSpec) -> tuple[str, ...]:
    words: list[str] = []
    for name in ("tensor", "pipeline", "data"):
        size = getattr(serving, f"{name}_parallel_size")
        words += [f"--{name}-parallel-size", str(size)] if size > 1 else []
    if serving.executor != "auto":
        words += ["--distributed-executor-backend", serving.executor]
        words += ["--data-parallel-backend", serving.executor] if serving.data_parallel_size > 1 else []
    return tuple(words)


def _device_arguments(serving: ServingSpec, place: Place) -> tuple[str, ...]:
    if place.device == "cpu":
        return ("--dtype", "bfloat16")
    words = ["--gpu-memory-utilization", str(serving.gpu_memory_utilization)]
    # Said rather than left to the engine's fallback: what runs then stands in server.json.
    words += ["--dtype", "half"] if _lacks_bf16(place.capability) else []
    if serving.gpu_kv_cache_gib is not None:
        words += ["--kv-cache-memory-bytes", str(int(serving.gpu_kv_cache_gib * BYTES_PER_GIB))]
    return tuple(words)


def _lacks_bf16(capability: tuple[int, int] | None) -> bool:
    return capability is not None and capability < _BF16_FROM


def refuse_without_half(config: Mapping[str, Any], serving: ServingSpec, capability: tuple[int, int] | None) -> None:
    """Raise InputError for a model that vLLM does not compute in float16, on a GPU that has no BF16.

    `config` is the model's config.json. A dtype in serving.engine_args is the user's own word.
    """
    if not _lacks_bf16(capability) or capability is None or "dtype" in map(argument_name, serving.engine_args):
        return
    if (kind := config.get("model_type")) in _NEVER_HALF:
        raise InputError(
            f"a GPU of compute capability {capability[0]}.{capability[1]} has no BF16, and vLLM does not compute {kind} in "
            "float16 (it overflows)",
            where="model.source",
            remedy="use a GPU of compute capability 8.0 or newer, or another model",
        )


def free_arguments(arguments: Mapping[str, str | float | bool]) -> tuple[str, ...]:
    """Write `serving.engine_args` as words; InputError for one that is refused or that the experiment has a field for."""
    words: list[str] = []
    for key, value in sorted(arguments.items()):
        name = argument_name(key)
        _refuse(key, name.removeprefix("no-").split(".")[0])
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}", str(value)]
    return tuple(words)


def _refuse(key: str, name: str) -> None:
    where = f"serving.engine_args.{key}"
    if name in RESERVED:
        raise InputError(f"{key} is set by a field of its own", where=where, remedy=f"use {RESERVED[name]} instead")
    if name in REFUSED:
        why, remedy = REFUSED[name]
        raise InputError(f"{key} is not taken: {why}", where=where, remedy=remedy)


def argument_name(key: str) -> str:
    """Write an argument's name as the engine's command line does, without the dashes."""
    return key.replace("_", "-").lstrip("-")


def _environment(experiment: Experiment, place: Place) -> dict[str, str]:
    # Weights are local by now: the engine has no business on a network.
    found = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if experiment.serving.dummy_weights:
        # vLLM's own dummy weights are zeros in the quantized formats: they would flatter speed and energy.
        found |= {"PYTHONPATH": str(PLUGIN), "TOKENHOUR_RANDOM_BITS": "1"}
    if place.sleep_mode:
        found["VLLM_SERVER_DEV_MODE"] = "1"
    if place.device == "cuda":
        # CUDA would number the fastest first, NVML and nvidia-smi by their slots: what is measured must be what serves.
        found["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    if place.gpus is not None:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(place.gpus)
    if place.device != "cpu":
        return found
    ranks = experiment.serving.gpus_per_replica()
    return found | {
        # `auto` keeps a core free on small machines: 1.3x slower at one stream, 1.55x at sixteen.
        "VLLM_CPU_OMP_THREADS_BIND": "|".join(_range(part) for part in split(place.cpus, ranks)),
        "VLLM_CPU_KVCACHE_SPACE": str(math.ceil(experiment.serving.kv_cache_gib)),
    }


def split(cpus: tuple[int, ...], parts: int) -> list[tuple[int, ...]]:
    """Split core numbers into `parts` groups of neighbours; with fewer cores than parts they share them."""
    if len(cpus) < parts:
        return [(cpus[index % len(cpus)],) for index in range(parts)]
    size, more = divmod(len(cpus), parts)
    ends = [index * size + min(index, more) for index in range(parts + 1)]
    return [cpus[a:b] for a, b in itertools.pairwise(ends)]


def _range(cpus: tuple[int, ...]) -> str:
    if len(cpus) > 1 and cpus == tuple(range(cpus[0], cpus[-1] + 1)):
        return f"{cpus[0]}-{cpus[-1]}"
    return ",".join(map(str, cpus))


def places(
    experiment: Experiment,
    device: str,
    ports: tuple[int, ...],
    host: str,
    cpus: tuple[int, ...],
    gpus: tuple[str, ...],
    capability: tuple[int, int] | None = None,
) -> list[Place]:
    """Share the device among the replicas: cores in groups of neighbours, GPUs in groups of what a replica takes.

    `cpus` are the core numbers and `gpus` the devices that may be used; a replica that takes all GPUs is told nothing.
    """
    serving, size = experiment.serving, experiment.serving.gpus_per_replica()
    sleeps = experiment.operations.idle.policy.startswith("sleep")
    shares = split(cpus, serving.replicas)
    return [
        Place(
            device=device,
            port=port,
            host=host,
            cpus=shares[index],
            gpus=gpus[index * size : (index + 1) * size] if device == "cuda" and len(gpus) > size else None,
            capability=capability,
            sleep_mode=sleeps,
        )
        for index, port in enumerate(ports)
    ]
