"""What is on this machine now: GPUs and who holds them, servers and when they were asked last, what runs have recorded.

Between scans a small history is kept, so that a scan from cron knows for how long something has been idle.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.scan_policy import ScanPolicy
from contracts.store import write_text_atomic
from contracts.telemetry import TELEMETRY_FILE
from serving.activity import read_metrics
from serving.guard import children_of
from serving.state import ServerState, all_states, start_of
from serving.waste import Holder, Recorded, Seen

HISTORY_FILE = ".scan.json"
_ENGINE = re.compile(r"vllm\.entrypoints\S*api_server|vllm serve|VLLM::")


@dataclass(slots=True)
class History:
    """Since when (Unix seconds) something has been idle, by a key that a reused pid cannot share."""

    since: dict[str, float] = field(default_factory=dict)
    requests: dict[str, float] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, file: Path) -> History:
        """Read it; one that is not there or is damaged begins anew."""
        try:
            data = json.loads(file.read_text())
            return cls(dict(data["since"]), dict(data["requests"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def idle_s(self, key: str, now_s: float, *, idle: bool) -> float:
        """Note whether `key` is idle now; return for how long it has been."""
        self.seen.add(key)
        if not idle:
            self.since.pop(key, None)
            return 0.0
        return now_s - self.since.setdefault(key, now_s)

    def write(self, file: Path) -> None:
        """Keep what was seen in this scan, forget what is gone."""
        kept = {key: value for key, value in self.since.items() if key in self.seen}
        asked = {key: value for key, value in self.requests.items() if key in self.seen}
        write_text_atomic(file, json.dumps({"since": kept, "requests": asked}))


def servers(results: Path, history: History, now_s: float) -> list[Seen]:
    """Return our servers that live, and every other vLLM server of this machine that tells its counters."""
    ours = [_ours(state, now_s) for _, state in all_states(results) if state.alive() and state.state != "stopped"]
    known = {pid for server in ours for pid in server.pids}
    return [*ours, *_foreign(known, history, now_s)]


def _ours(state: ServerState, now_s: float) -> Seen:
    asked = dt.datetime.fromisoformat(state.last_request_utc or state.started_utc).timestamp()
    serving = state.state in {"ready", "degraded"}
    return Seen(
        run=state.run,
        pid=state.supervisor_pid,
        start=state.supervisor_start,
        url=state.base_url,
        checkpoint=state.checkpoint,
        # `serving run` has its own command beside it, which is the one that asks.
        idle_s=max(0.0, now_s - asked) if serving and state.mode == "up" else None,
        replicas=len(state.replicas),
        capacity=state.load.capacity,
        peak_running=state.load.peak_running,
        observed_s=state.load.observed_s,
        pids=frozenset(
            pid for each in state.replicas if each.pid is not None for pid in (each.pid, *_descendants(each.pid))
        ),
    )


def _foreign(known: set[int], history: History, now_s: float) -> Iterator[Seen]:
    for pid, command in processes():
        words = command.split()
        if pid in known or not _ENGINE.search(command) or ("--port" not in words and "vllm serve" not in command):
            continue
        port = _value(words, "--port")
        if not port and "vllm serve" not in command:
            continue
        url = f"http://127.0.0.1:{port or 8000}"
        found = read_metrics(url)
        if not found:
            continue
        key = f"server {pid} {start_of(pid)}"
        done = found.get("vllm:request_success_total", 0.0)
        busy = found.get("vllm:num_requests_running", 0.0) > 0 or history.requests.get(key) != done
        history.requests[key] = done
        yield Seen(
            run=f"pid {pid}",
            pid=pid,
            start=start_of(pid) or 0,
            url=url,
            checkpoint=_value(words, "--model"),
            idle_s=history.idle_s(key, now_s, idle=not busy),
            ours=False,
            pids=frozenset((pid, *_descendants(pid))),
        )


def _value(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1] if flag in words[:-1] else ""


def _descendants(pid: int) -> Iterator[int]:
    for child in children_of(pid):
        yield child
        yield from _descendants(child)


def processes() -> Iterator[tuple[int, str]]:
    """Yield (pid, command line) of every process that may be read."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if command:
                yield int(folder.name), command


def holders(policy: ScanPolicy, history: History, now_s: float) -> list[Holder]:
    """Watch every GPU for the policy's time; who holds memory, and how busy it was. Empty without NVML."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        gpus = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        peaks: dict[int, float | None] = dict.fromkeys(range(len(gpus)))
        for number in range(policy.samples):
            for index, gpu in enumerate(gpus):
                with contextlib.suppress(pynvml.NVMLError):
                    peaks[index] = max(peaks[index] or 0.0, pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100)
            if number + 1 < policy.samples:
                time.sleep(policy.sample_s / policy.samples)
        return [
            holder
            for index, gpu in enumerate(gpus)
            for holder in _of_gpu(pynvml, index, gpu, peaks[index], policy, history, now_s)
        ]
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _of_gpu(
    pynvml: Any, index: int, gpu: Any, peak: float | None, policy: ScanPolicy, history: History, now_s: float
) -> Iterator[Holder]:
    try:
        found = pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)
        name, uuid = _text(pynvml.nvmlDeviceGetName(gpu)), _text(pynvml.nvmlDeviceGetUUID(gpu))
        used = int(pynvml.nvmlDeviceGetMemoryInfo(gpu).used)
    except pynvml.NVMLError:
        # A GPU that fell off the bus is not this command's business; the others are still told.
        return
    idle = peak is not None and peak <= policy.gpu_idle_share
    seen = [(process, start) for process in found if (start := start_of(process.pid)) is not None]
    if not seen:
        yield Holder(
            pid=None,
            start=None,
            command="held by nobody that can be seen from here",
            gpu=str(index),
            gpu_name=name,
            memory_bytes=used,
            busy_share=peak,
            idle_s=history.idle_s(uuid, now_s, idle=idle),
        )
    for process, start in seen:
        yield Holder(
            pid=process.pid,
            start=start,
            command=_command(process.pid),
            gpu=str(index),
            gpu_name=name,
            memory_bytes=int(process.usedGpuMemory or 0),
            busy_share=peak,
            idle_s=history.idle_s(f"{uuid} {process.pid} {start}", now_s, idle=idle),
        )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "(not ours to read)"


def recorded(results: Path) -> list[Recorded]:
    """Read the GPU utilization that runs below `results` have recorded; runs without any are left out."""
    found = []
    for file in sorted(results.glob(f"*/{TELEMETRY_FILE}")) if results.is_dir() else []:
        from pyarrow import parquet

        with contextlib.suppress(OSError, ValueError, KeyError):
            rows = parquet.read_table(
                file, filters=[("source", "=", "gpu"), ("metric", "=", "utilization_share")]
            ).to_pydict()
            if values := rows["value"]:
                found.append(
                    Recorded(
                        run=file.parent.name,
                        accelerators=len(set(rows["index"])),
                        mean_share=sum(values) / len(values),
                        peak_share=max(values),
                        seconds=max(rows["t_s"]) - min(rows["t_s"]),
                    )
                )
    return found


def same_process(pid: int, start: int) -> bool:
    """Tell whether `pid` is still the process that was seen, and not ourselves."""
    return pid != os.getpid() and start_of(pid) == start
