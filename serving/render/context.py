"""What the rendered files are made from: the experiment, and whatever its runs have measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.config.prices import InstancePriceTable
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.yaml_loader import validate_yaml
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.records.verdict import Verdict
from tokenhour.machine.run_folder import RunDir
from tokenhour.serving.launch.argv import Place, Weights, plan

# The engine's release that the rest of the project is tested with.
ENGINE_TAG = "v0.32.0"
IMAGES = {"cuda": f"vllm/vllm-openai:{ENGINE_TAG}", "cpu": f"vllm/vllm-openai-cpu:{ENGINE_TAG}"}
ENGINE_PORT = 8000
ROUTER_PORT = 8080
# Until a start was measured: what the experiment allows it.
_MARGIN = 2.0
_PROBE_PERIOD_S = 5
# Of this machine's making: a container has cores of its own, and none of our folders.
_NOT_IN_CONTAINERS = frozenset({"VLLM_CPU_OMP_THREADS_BIND", "PYTHONPATH", "TOKENHOUR_RANDOM_BITS"})


@dataclass(frozen=True, slots=True)
class Deployment:
    """One scheme of an experiment as a fleet."""

    name: str
    model_id: str
    model_folder: str
    """The checkpoint's folder name, below the folder of checkpoints."""
    device: str
    image: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    replicas: int
    gpus: int
    """Of one replica; 0 on a CPU."""
    max_num_seqs: int
    start_s: float
    """The measured cold start, or what the experiment allows where none was measured."""
    start_measured: bool
    start_where: str
    """What it was measured on, or why a start that was measured does not count here; empty where there was none."""
    drain_s: int
    usd_per_hour: float
    """Of one replica."""
    price_source: str
    memory_gib: float
    """What one replica's container may hold, GiB."""
    tls: bool
    dummy_weights: bool = False

    @property
    def start_limit_s(self) -> int:
        """How long a start may take before it counts as failed: twice the measured one."""
        return math.ceil(_MARGIN * self.start_s) if self.start_measured else math.ceil(self.start_s)

    @property
    def start_checks(self) -> int:
        """The same in checks of PROBE_PERIOD_S."""
        return math.ceil(self.start_limit_s / _PROBE_PERIOD_S)

    @property
    def probe_period_s(self) -> int:
        """Seconds between two checks of a start."""
        return _PROBE_PERIOD_S

    def heading(self) -> str:
        """Say where the numbers come from, as comment lines of the rendered file."""
        start = (
            f"measured cold start {self.start_s:.0f} s on {self.start_where}"
            if self.start_measured
            else f"no start was measured yet{self.start_where}: serving.ready_timeout_s = {self.start_s:.0f} s is assumed"
        )
        dummy = "# serving.dummy_weights: no weights are read, and the answers mean nothing.\n" if self.dummy_weights else ""
        return (
            f"# Rendered by `tokenhour serving render` for {self.name}; do not edit, render again.\n{dummy}"
            f"# Probes: {start}. Cost: ${self.usd_per_hour:.4g} an hour a replica, {self.price_source}.\n"
        )


def deployment(experiment: Experiment, scheme: str, results: Path, prices: Path, device: str) -> Deployment:
    """Collect what is known. Works before anything has run: what is assumed then says so."""
    run = RunDir.of(results, experiment, scheme).path
    checkpoint = Checkpoint.read(run) if Checkpoint.exists(run) else None
    server = Server.read(run) if Server.exists(run) else None
    serving = experiment.serving
    start_s, start_where = _cold_start(server, device, dummy_weights=serving.dummy_weights)
    if serving.executor == "ray":
        raise InputError(
            "a replica over several nodes is not rendered", where="serving.executor = ray", remedy="use KubeRay for it"
        )
    source = experiment.model.source.removeprefix("package:").rstrip("/").rsplit("/", 1)[-1]
    folder = Path(checkpoint.path).name if checkpoint else f"{source}-{scheme}".lower()
    weights = Weights(f"/models/{folder}", scheme, checkpoint.model_name if checkpoint else source)
    launch = plan(experiment, weights, Place(device, ENGINE_PORT, "0.0.0.0"), "python3")  # noqa: S104 (a container's own)
    usd, price_source = _usd_per_hour(experiment, run.name, results, prices)
    weights_gib = (checkpoint.weight_bytes if checkpoint else 0) / 2**30
    environment = {key: value for key, value in launch.environment.items() if key not in _NOT_IN_CONTAINERS}
    return Deployment(
        name=run.name,
        model_id=launch.model_id,
        model_folder=folder,
        device=device,
        image=IMAGES[device],
        arguments=launch.argv[3:],
        environment=environment,
        replicas=serving.replicas,
        gpus=serving.gpus_per_replica() if device == "cuda" else 0,
        max_num_seqs=serving.max_num_seqs,
        start_s=serving.ready_timeout_s if start_s is None else start_s,
        start_measured=start_s is not None,
        start_where=start_where,
        drain_s=experiment.operations.drain_s,
        usd_per_hour=usd,
        price_source=price_source,
        memory_gib=math.ceil(4 + 2 * weights_gib + (serving.kv_cache_gib if device == "cpu" else 8)),
        tls=experiment.operations.tls_certificate is not None,
        dummy_weights=serving.dummy_weights,
    )


def _cold_start(server: Server | None, device: str, *, dummy_weights: bool) -> tuple[float | None, str]:
    """Return (seconds, on what) of a start that says something about `device`, or (None, why there is none).

    A start on a CPU tells nothing about one with CUDA graphs, and probes that are too short restart a fleet forever.
    """
    if server is None:
        return None, ""
    found = server.accelerator
    if found.kind != device:
        return None, f" on {device} (on {found.kind} it took {server.cold_start.ready_s:.0f} s, which says nothing about it)"
    if bool(server.synthetic) != dummy_weights:
        return None, " with real weights" if server.synthetic else " with dummy weights"
    return server.cold_start.ready_s, found.name


def _usd_per_hour(experiment: Experiment, run: str, results: Path, prices: Path) -> tuple[float, str]:
    """Return (USD an hour of one replica, where it comes from): the verdict's, or the price table's latest row."""
    spec, folder = experiment.economics, RunDir.of(results, experiment).path
    if Verdict.exists(folder):
        for found in Verdict.read(folder).runs:
            if found.run == run:
                return found.replica_usd_per_hour, f"from {folder.name}/verdict.json"
    table = validate_yaml(InstancePriceTable, prices / "instances.yaml")
    rows = [row for row in table.prices if row.instance == spec.hardware and row.cloud == spec.cloud]
    priced = [(row, price) for row in rows if (price := getattr(row, spec.purchase)) is not None]
    if not priced:
        raise InputError(
            f"no {spec.purchase} price for {spec.cloud} {spec.hardware}",
            where="economics.hardware",
            remedy=f"add a row to {prices / 'instances.yaml'}",
        )
    row, price = priced[-1]
    share = experiment.serving.gpus_per_replica() / row.accelerators if row.kind == "cuda" else 1.0
    return float(price) * share, f"{row.cloud} {row.instance} {spec.purchase}, checked {row.checked_on}"
