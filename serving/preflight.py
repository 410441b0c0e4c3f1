"""Everything that is decided and checked before a server starts: nothing runs when a mistake is found."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.machine.file_lock import locked
from tokenhour.machine.hardware import accelerator, available_memory_bytes, compute_capabilities
from tokenhour.machine.kernel_support import (
    refuse_bits_without_kernel,
    refuse_kv_without_kernel,
    refuse_without_kernel,
    saturates,
)
from tokenhour.machine.run_folder import RunDir
from tokenhour.serving.engine.router import plan_router, router_version
from tokenhour.serving.launch import engine_args, memory_budget
from tokenhour.serving.launch.argv import Launch, Weights, base_url, places, plan, refuse_without_half
from tokenhour.serving.launch.engine_env import (
    LOOPBACK,
    beside_gpus,
    check_exposure,
    check_idle,
    check_parallelism,
    choose_ports,
    device_of,
    engine_python,
    gpus_used,
    usable_cores,
    versions,
    visible_gpus,
)
from tokenhour.serving.launch.gpu_memory import memory_now
from tokenhour.serving.proxy.server import FrontSpec, tls_context

LOG = "server.log"
ROUTER_LOG = "router.log"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that was decided before anything is started."""

    run: RunDir
    experiment: Experiment
    scheme: str
    checkpoint: Checkpoint
    launches: tuple[Launch, ...]
    """One a replica."""
    router: Launch | None
    front: FrontSpec | None
    engine: str
    device: str
    gpus: tuple[str, ...]
    """Those that the replicas take."""
    versions: dict[str, str]
    budget: memory_budget.Budget
    secrets: dict[str, str] = field(repr=False, default_factory=dict)

    @property
    def accelerators(self) -> int:
        """Count the accelerators that serve; a CPU host is one, however many engines share it."""
        serving = self.experiment.serving
        return serving.replicas * serving.gpus_per_replica() if self.device == "cuda" else 1

    @property
    def base_url(self) -> str:
        """Where clients go."""
        if self.front is not None:
            scheme = "https" if self.front.tls_certificate else "http"
            return base_url(self.front.host, self.front.port, scheme)
        return (self.router or self.launches[0]).base_url

    def log_of(self, index: int) -> Path:
        """Return the log of one replica."""
        return self.run.path / (LOG if len(self.launches) == 1 else f"server-{index}.log")

    @property
    def router_log(self) -> Path:
        """Return the router's log."""
        return self.run.path / ROUTER_LOG


def prepare(
    experiment: Experiment, scheme: str, results: Path, root: Path, *, verify: bool = True, kept_up: bool = False
) -> Prepared:
    """Check checkpoint, engine, device, arguments, secrets, TLS, memory and ports; InputError, and nothing was started.

    `kept_up` is for a server that stays: only then the idle policy counts.
    """
    run = RunDir.of(results, experiment, scheme)
    if not Checkpoint.exists(run.path):
        raise InputError(
            "no checkpoint for this scheme yet",
            where=str(run.path),
            remedy=f"tokenhour quantize run EXP --scheme {scheme}",
        )
    checkpoint = Checkpoint.read(run.path)
    if not kept_up:
        idle = experiment.operations.idle.model_copy(update={"policy": "none"})
        operations = experiment.operations.model_copy(update={"idle": idle})
        experiment = experiment.model_copy(update={"operations": operations})
    python, name = engine_python(root)
    device = device_of(experiment, name)
    gpus = visible_gpus()
    used = gpus_used(experiment.serving, device, gpus)
    capability = _kernels(experiment, scheme, Path(checkpoint.path), device, used)
    secrets, found = check_exposure(experiment), versions(root)
    check_idle(experiment, device)
    check_parallelism(experiment, device, len(gpus), found)
    engine_args.check_installed(experiment.serving.engine_args, root)
    budget = _fits(checkpoint, experiment, device, used, capability)
    if verify:
        checkpoint.verify(Path(checkpoint.path))
    ports = _ports(experiment)
    weights = Weights(checkpoint.path, scheme, checkpoint.model_name)
    host = experiment.serving.host if ports.router is None and ports.front is None else "127.0.0.1"
    replicas = places(experiment, device, ports.engines, host, usable_cores(), gpus, capability)
    launches = tuple(plan(experiment, weights, place, python, secrets) for place in replicas)
    router = _router(experiment, launches, ports, weights.model_id, secrets)
    return Prepared(
        run=run,
        experiment=experiment,
        scheme=scheme,
        checkpoint=checkpoint,
        launches=launches,
        router=router,
        front=_front(experiment, (router or launches[0]).base_url, ports.front, weights.model_id, secrets),
        engine=name,
        device=device,
        gpus=used,
        versions=found,
        budget=budget,
        secrets=secrets,
    )


def _kernels(experiment: Experiment, scheme: str, weights: Path, device: str, gpus: Sequence[str]) -> tuple[int, int] | None:
    """Refuse what this device has no kernel for; return the lowest compute capability of the GPUs that will serve."""
    found = compute_capabilities(gpus) if device == "cuda" else ()
    for capability in found or (None,):
        refuse_without_kernel(scheme, device, capability)
    lowest, config = found[0] if found else None, memory_budget.model_config(weights)
    refuse_without_half(config, experiment.serving, lowest)
    refuse_bits_without_kernel(experiment.quantize, scheme, device)
    refuse_kv_without_kernel(experiment.serving.kv_cache_dtype, device, memory_budget.head_size(config))
    return lowest


@dataclass(frozen=True, slots=True)
class _Ports:
    engines: tuple[int, ...]
    router: tuple[int, int] | None
    front: int | None


def _needs_front(experiment: Experiment) -> bool:
    operations = experiment.operations
    exposed = experiment.serving.host not in LOOPBACK or operations.tls_certificate is not None
    return exposed or operations.idle.policy != "none"


def _ports(experiment: Experiment) -> _Ports:
    """Give the outermost layer the experiment's port and everything behind it free ones."""
    serving, several = experiment.serving, experiment.serving.replicas > 1
    fronted = _needs_front(experiment)
    inner = serving.replicas * (several or fronted) + several * (2 if fronted else 1)
    free = list(choose_ports("127.0.0.1", [0] * inner))
    outer = choose_ports(serving.host, [serving.port])[0]
    engines = tuple(free.pop() for _ in range(serving.replicas)) if several or fronted else (outer,)
    router = ((free.pop() if fronted else outer), free.pop()) if several else None
    return _Ports(engines, router, outer if fronted else None)


def _router(
    experiment: Experiment, launches: Sequence[Launch], ports: _Ports, model_id: str, secrets: dict[str, str]
) -> Launch | None:
    if ports.router is None:
        return None
    router_version()
    host = "127.0.0.1" if ports.front is not None else experiment.serving.host
    return plan_router(experiment, [launch.base_url for launch in launches], host, ports.router, model_id, secrets)


def _front(
    experiment: Experiment, upstream: str, port: int | None, model_id: str, secrets: dict[str, str]
) -> FrontSpec | None:
    if port is None:
        return None
    operations, host = experiment.operations, experiment.serving.host
    found = FrontSpec(
        host=host,
        port=port,
        upstream=upstream,
        model_id=model_id,
        key=secrets.get("VLLM_API_KEY"),
        tls_certificate=operations.tls_certificate,
        tls_key=operations.tls_key,
        show_metrics=host in LOOPBACK,
        max_waiting=operations.idle.max_waiting,
        wake_timeout_s=operations.idle.wake_timeout_s,
        keepalive_s=operations.keepalive_s,
    )
    # The front is the last to start: a certificate that it cannot use is told now, not after the weights were loaded.
    tls_context(found)
    return found


def _fits(
    checkpoint: Checkpoint, experiment: Experiment, device: str, gpus: Sequence[str], capability: tuple[int, int] | None
) -> memory_budget.Budget:
    now = memory_now(gpus) if gpus else []
    # Every GPU must hold its share: the smallest decides.
    gpu_bytes = min((gpu.total_bytes for gpu in now), default=accelerator().memory_bytes)
    have = available_memory_bytes() if device == "cpu" else gpu_bytes
    found = memory_budget.budget(checkpoint, experiment.serving, device, have)
    memory_budget.refuse(found, checkpoint, experiment.serving, device, capability)
    memory_budget.refuse_held(now, experiment.serving)
    return found


def exclusive(run: RunDir) -> contextlib.AbstractContextManager[None]:
    """Hold the run folder for this process; InputError when another server has it."""
    remedy = "stop it first: tokenhour serving down"
    return locked(run.path / ".lock", "another server is using this run folder", where=run.path, remedy=remedy, leave=True)


def say_memory(prepared: Prepared) -> None:
    """Say before anything is loaded what it will take, and how many sequences fit at once.

    Warn of GPUs that stay idle, and of a product that is not exact.
    """
    if (warning := beside_gpus(prepared.experiment, prepared.engine)) is not None:
        print(f"   {warning}", file=sys.stderr)
    if (inexact := saturates(prepared.scheme, prepared.device)) is not None:
        print(f"   WARNING: {inexact}", file=sys.stderr)
    fit, most = prepared.budget.concurrent_sequences(), prepared.experiment.serving.max_num_seqs
    queued = f"; above that serving.max_num_seqs = {most} waits" if fit is not None and fit < most else ""
    print(f"   {prepared.scheme}: {prepared.budget.sentence()}{queued}", file=sys.stderr)


def old_logs(run: RunDir) -> list[str]:
    """Name the logs of earlier sessions."""
    return [file.name for pattern in ("server*.log*", "router.log*") for file in sorted(run.path.glob(pattern))]
