"""Which accelerators and servers cost money and do nothing: pure rules over what was seen."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tokenhour.contracts.config.idle_scan import Pattern, ScanPolicy
from tokenhour.contracts.units import BYTES_PER_MIB

_NOTEBOOK = re.compile(r"ipykernel|jupyter|colab_kernel|notebook|marimo|spyder")
_SWEEP = re.compile(r"sweep|wandb agent|optuna|ray::|hyperopt|torchrun|accelerate launch|deepspeed|grid_?search")
MEANING: dict[Pattern, str] = {
    "idle-sweep": "a training or sweep worker holds a GPU and computes nothing",
    "detached-notebook": "a notebook kernel holds GPU memory, nobody computes in it",
    "peak-sized-fleet": "more replicas than the busiest moment needed",
    "forgotten-clone": "a second server of the same model that nobody asks",
    "pinned-idle-weights": "a server holds its weights and has had no request",
    "idle-memory": "a process holds GPU memory and computes nothing",
}


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds memory of a GPU."""

    pid: int | None
    """None: memory is held, by nobody that can be seen from here (another container)."""
    start: int | None
    """Clock ticks since boot: a pid alone may be reused."""
    command: str
    gpu: str
    gpu_name: str
    memory_bytes: int
    busy_share: float | None
    """Highest share of the GPU that it (or, where that is not told, anybody) used while it was watched."""
    idle_s: float
    """For how long it has been seen idle, over all scans."""


GpuState = Literal["busy", "idle", "unused", "cannot be judged", "lost"]


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as it was seen, whoever holds it."""

    gpu: str
    """Its number on the bus."""
    name: str = ""
    uuid: str = ""
    used_bytes: int | None = None
    total_bytes: int | None = None
    busy_share: float | None = None
    """Highest utilization while it was watched; None where the driver does not tell (MIG, some virtual GPUs)."""
    idle_s: float = 0.0
    """For how long it has been seen idle, over all scans."""
    holders: tuple[Holder, ...] = ()
    """Who holds its memory; one without a pid stands for whoever cannot be seen from here."""
    lost: bool = False
    """It does not answer."""

    def state(self, policy: ScanPolicy) -> GpuState:
        """Judge it: `unused` is idle with nobody on it, `idle` with somebody who holds it."""
        if self.lost:
            return "lost"
        if self.busy_share is None:
            return "cannot be judged"
        if self.busy_share > policy.gpu_idle_share:
            return "busy"
        held = (self.used_bytes or 0) >= policy.min_memory_mib * BYTES_PER_MIB
        return "idle" if held or any(holder.pid is not None for holder in self.holders) else "unused"


@dataclass(frozen=True, slots=True)
class Seen:
    """A server as it was seen: one of ours, or any vLLM that listens on this machine."""

    run: str
    pid: int
    start: int
    url: str
    checkpoint: str
    idle_s: float | None
    """Since its last request, as far as is known; None while it starts or rests."""
    replicas: int = 1
    capacity: int = 0
    peak_running: float = 0.0
    observed_s: float = 0.0
    ours: bool = True
    command: str = ""
    """Its command line, keys and tokens masked: what the policy protects is matched against it."""
    unjudged: str = ""
    """Why it cannot be told whether it is asked; empty where it can."""
    pids: frozenset[int] = field(default_factory=frozenset)
    """Its processes, which are judged as a server and not once more as holders of memory."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Utilization that an earlier measurement of a run recorded (0-1), over how many accelerators."""

    run: str
    accelerators: int
    mean_share: float
    peak_share: float
    seconds: float


@dataclass(frozen=True, slots=True)
class IdleFinding:
    """Something that costs money and does nothing."""

    pattern: Pattern
    what: str
    pid: int | None
    start: int | None
    run: str | None
    idle_s: float
    confirmed: bool
    """It lasted for the policy's time; otherwise it only looks so now."""
    memory_bytes: int = 0
    remedy: str = ""
    command: str = ""


def find(
    holders: Sequence[Holder], servers: Sequence[Seen], recorded: Sequence[Recorded], policy: ScanPolicy
) -> list[IdleFinding]:
    """Judge everything that was seen, the longest idle first."""
    serving = {pid for server in servers if not server.unjudged for pid in (server.pid, *server.pids)}
    found = [
        *_idle_servers(servers, policy),
        *_fleets(servers, recorded, policy),
        *_idle_holders([holder for holder in holders if holder.pid not in serving], policy),
    ]
    return sorted(found, key=lambda each: (-each.confirmed, -each.idle_s, each.what))


def _idle_servers(servers: Sequence[Seen], policy: ScanPolicy) -> Iterator[IdleFinding]:
    limit_s = policy.idle_minutes * 60
    for server in servers:
        if not server.idle_s:
            continue
        twins = [other for other in servers if other is not server and other.checkpoint == server.checkpoint]
        # Of two clones the one that is asked stays; of two that nobody asks, the one that is asked less recently goes.
        forgotten = any(
            other.idle_s is not None and (other.idle_s, other.pid) < (server.idle_s, server.pid) for other in twins
        )
        pattern: Pattern = "forgotten-clone" if server.checkpoint and forgotten else "pinned-idle-weights"
        yield IdleFinding(
            pattern,
            f"{server.run} at {server.url}",
            server.pid,
            server.start,
            server.run,
            server.idle_s,
            confirmed=server.idle_s >= limit_s,
            remedy="tokenhour serving down " + server.run + ", or set operations.idle.policy"
            if server.ours
            else "stop it, or serve it with operations.idle.policy",
            command=server.command or server.run,
        )


def _fleets(servers: Sequence[Seen], recorded: Sequence[Recorded], policy: ScanPolicy) -> Iterator[IdleFinding]:
    for server in servers:
        if server.replicas < 2 or not server.capacity:
            continue
        share = server.peak_running / server.capacity
        needed = max(1, math.ceil(server.peak_running / (server.capacity / server.replicas)))
        if share < policy.fleet_share and needed < server.replicas:
            yield IdleFinding(
                "peak-sized-fleet",
                f"{server.run}: {server.replicas} replicas, busiest moment {share:.0%} of their sequences",
                server.pid,
                server.start,
                server.run,
                server.observed_s,
                confirmed=server.observed_s >= policy.fleet_minutes * 60,
                remedy=f"serving.replicas: {needed}",
            )
    for run in recorded:
        if run.accelerators > 1 and run.peak_share < policy.fleet_share:
            yield IdleFinding(
                "peak-sized-fleet",
                f"{run.run}: {run.accelerators} accelerators, recorded utilization {run.mean_share:.0%} on average, "
                f"{run.peak_share:.0%} at most",
                None,
                None,
                run.run,
                run.seconds,
                confirmed=run.seconds >= policy.fleet_minutes * 60,
                remedy="fewer accelerators a replica, or fewer replicas",
            )


def _idle_holders(holders: Sequence[Holder], policy: ScanPolicy) -> Iterator[IdleFinding]:
    for holder in holders:
        if holder.memory_bytes < policy.min_memory_mib * BYTES_PER_MIB:
            continue
        if holder.busy_share is None or holder.busy_share > policy.gpu_idle_share:
            continue
        yield IdleFinding(
            pattern_of(holder.command),
            f"{holder.gpu_name} {holder.gpu}: "
            + (f"pid {holder.pid}, {holder.command[:60]}" if holder.pid else holder.command),
            holder.pid,
            holder.start,
            None,
            holder.idle_s,
            confirmed=holder.idle_s >= policy.idle_minutes * 60,
            memory_bytes=holder.memory_bytes,
            remedy=f"kill {holder.pid} once its owner agrees" if holder.pid else "look from the host: nvidia-smi",
            command=holder.command,
        )


def pattern_of(command: str) -> Pattern:
    """Name an idle holder by its command line."""
    if _NOTEBOOK.search(command):
        return "detached-notebook"
    return "idle-sweep" if _SWEEP.search(command) else "idle-memory"


def may_stop(finding: IdleFinding, policy: ScanPolicy) -> bool:
    """Tell whether the policy names this finding: confirmed, its pattern listed, a process to signal, not protected."""
    if finding.pattern == "peak-sized-fleet" or finding.pid is None or not finding.confirmed:
        return False
    shielded = any(re.search(each, text) for each in policy.protect for text in (finding.command, finding.run or ""))
    return finding.pattern in policy.stop and not shielded
