"""What a person sees while a probe runs: a table that follows on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import numpy as np

from tokenhour.bench.statistics.metrics import latencies
from tokenhour.contracts.records.request import RequestRow
from tokenhour.contracts.units import human_count, human_seconds
from tokenhour.machine.progress import Status

RECENT_S = 10.0
LATEST = 2000
"""Requests whose latencies are looked at: more would take time from the load generator."""
_REFRESH_HZ = 4
Readings = dict[tuple[str, str], dict[str, tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A probe at one moment. Absent figures are None."""

    done: int
    failed: int
    progress: float
    """Of the probe's time, 0 to 1."""
    left_s: float
    completed_rps: float
    """Over the last seconds."""
    ttft_s: tuple[float, float, float] | None
    """p50, p90, p99 of the latest requests."""
    tpot_s: tuple[float, float, float] | None
    output_tps: float | None
    running: float | None
    waiting: float | None
    kv_cache_share: float | None
    utilization_share: float | None
    """Of the GPUs, mean; of the host's cores where there is no GPU."""
    power_w: float | None
    """Of all GPUs."""
    gpu: bool


@dataclass(frozen=True, slots=True)
class ProbeTimes:
    """When a probe's window begins and ends, on the run's clock, and when all of it should be over."""

    start_s: float
    window_s: float
    lead_in_s: float
    lead_out_s: float


def snapshot(
    rows: Sequence[RequestRow], times: ProbeTimes, now_s: float, readings: Readings, output_tps: float | None
) -> Snapshot:
    """Work out a probe's figures from the requests that have ended and the latest telemetry. Pure."""
    begin, end = times.start_s - times.lead_in_s, times.start_s + times.window_s + times.lead_out_s
    since = max(begin, now_s - RECENT_S)
    recent = [r for r in rows if r.outcome == "success" and r.finished_s >= since]
    span = max(now_s - since, 1e-9)
    found = latencies(list(rows[-LATEST:]))
    if output_tps is None and recent:
        output_tps = sum(r.completion_tokens or 0 for r in recent) / span
    gpu = bool(readings.get(("gpu", "utilization_share")))
    used = readings.get(("gpu", "utilization_share") if gpu else ("host", "cpu_share"), {})
    power = readings.get(("gpu", "power_w"), {})
    return Snapshot(
        done=len(rows),
        failed=sum(r.outcome not in {"success", "cancelled"} for r in rows),
        progress=min(1.0, max(0.0, (now_s - begin) / (end - begin))),
        left_s=max(0.0, end - now_s),
        completed_rps=len(recent) / span,
        ttft_s=_percentiles(found.ttft),
        tpot_s=_percentiles(found.tpot),
        output_tps=output_tps,
        running=_one(readings, "requests_running"),
        waiting=_one(readings, "requests_waiting"),
        kv_cache_share=_one(readings, "kv_cache_share"),
        utilization_share=sum(v for _, v in used.values()) / len(used) if used else None,
        power_w=sum(v for _, v in power.values()) if power else None,
        gpu=gpu,
    )


def _percentiles(values: Any) -> tuple[float, float, float] | None:
    if not len(values):
        return None
    p50, p90, p99 = np.percentile(values, (50, 90, 99))
    return float(p50), float(p90), float(p99)


def _one(readings: Readings, metric: str) -> float | None:
    found = readings.get(("engine", metric))
    return next(iter(found.values()))[1] if found else None


class TelemetryTail:
    """Reads the telemetry lines that have been written since the last look; keeps each metric's latest value."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._at = 0
        self._tokens: list[tuple[float, float]] = []
        self.readings: Readings = {}

    def look(self) -> None:
        """Take in what is new; a line that is not whole yet waits."""
        if not self._file.is_file():
            return
        with self._file.open("rb") as stream:
            stream.seek(self._at)
            data = stream.read()
        end = data.rfind(b"\n") + 1
        self._at += end
        for line in data[:end].splitlines():
            t, source, index, metric, value = json.loads(line)
            self.readings.setdefault((source, metric), {})[index] = (t, value)
            if (source, metric) == ("engine", "generation_tokens_total"):
                self._tokens = [(a, b) for a, b in self._tokens if a > t - RECENT_S] + [(t, value)]

    def output_tps(self) -> float | None:
        """Return the engine's own count of generated tokens over the last seconds."""
        if len(self._tokens) < 2:
            return None
        (t0, v0), (t1, v1) = self._tokens[0], self._tokens[-1]
        return (v1 - v0) / (t1 - t0) if t1 > t0 else None


def line(s: Snapshot) -> str:
    """Say a snapshot in a line."""
    parts = [f"{s.progress:.0%}, {human_seconds(round(s.left_s))} left", f"{s.done} done"]
    parts += [f"{s.failed} failed"] if s.failed else []
    parts += [f"{s.completed_rps:.3g} requests/s"]
    parts += [f"{human_count(s.output_tps)} tokens/s"] if s.output_tps is not None else []
    parts += [f"TTFT p90 {human_seconds(s.ttft_s[1])}"] if s.ttft_s else []
    parts += [f"TPOT p90 {human_seconds(s.tpot_s[1])}"] if s.tpot_s else []
    if s.utilization_share is not None:
        parts.append(f"{'GPU' if s.gpu else 'CPU'} {s.utilization_share:.0%}")
    parts += [f"{s.power_w:.0f} W"] if s.power_w is not None else []
    return ", ".join(parts)


@dataclass(slots=True)
class Live:
    """Shows a probe while the block runs; `update` says its outcome in a line that stays."""

    title: str
    telemetry: Path
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _tail: TelemetryTail = field(init=False)
    _status: Status | None = None
    _live: Any = None
    _text: str = ""
    _began: float = 0.0

    def __enter__(self) -> Self:
        self._tail = TelemetryTail(self.telemetry)
        self._began = time.monotonic()
        if self.stream.isatty():
            from rich.console import Console
            from rich.live import Live as RichLive

            self._live = RichLive(
                self.title, console=Console(file=self.stream), refresh_per_second=_REFRESH_HZ, transient=True
            )
            self._live.start()
        else:
            self._status = Status(self.title, self.stream).__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._status is not None:
            self._status.__exit__(kind, error, tb)
            return
        self._live.stop()
        if kind is None:
            spent = human_seconds(round(time.monotonic() - self._began))
            self.stream.write(f"   {self.title}: {self._text}  [{spent}]\n")
            self.stream.flush()

    def show(self, rows: Sequence[RequestRow], times: ProbeTimes, now_s: float) -> None:
        """Show where the probe stands."""
        self._tail.look()
        found = snapshot(rows, times, now_s, self._tail.readings, self._tail.output_tps())
        if self._status is not None:
            self._status.update(line(found))
        else:
            self._live.update(table(self.title, found))

    def update(self, text: str) -> None:
        """Say the outcome."""
        self._text = text
        if self._status is not None:
            self._status.update(text)


def table(title: str, s: Snapshot) -> Any:
    """Lay a snapshot out for a terminal."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def three(values: tuple[float, float, float] | None) -> str:
        return " / ".join(human_seconds(v) for v in values) if values else "none yet"

    grid = Table.grid(padding=(0, 2))
    device = "GPU" if s.gpu else "CPU"
    power = f", {s.power_w:.0f} W" if s.power_w is not None else ""
    cells = (
        ("rate now", f"{s.completed_rps:.3g} requests/s, {s.done} done, {s.failed} failed"),
        ("tokens now", "none yet" if s.output_tps is None else f"{human_count(s.output_tps)} output tokens/s"),
        ("TTFT p50 / p90 / p99", three(s.ttft_s)),
        ("TPOT p50 / p90 / p99", three(s.tpot_s)),
        ("queue", _queue(s)),
        (device, "not sampled yet" if s.utilization_share is None else f"{s.utilization_share:.0%} busy{power}"),
    )
    for name, value in cells:
        grid.add_row(Text(f"   {name}", style="dim"), value)
    bar = Table.grid(padding=(0, 2))
    left = f"{human_seconds(round(s.left_s))} left" if s.left_s else "waiting for the last answers"
    bar.add_row("  ", ProgressBar(total=1.0, completed=s.progress, width=40), left)
    return Group(Text(f"   {title}", style="bold"), bar, grid)


def _queue(s: Snapshot) -> str:
    if s.running is None and s.waiting is None:
        return "not told by this engine"
    kv = f", KV cache {s.kv_cache_share:.0%}" if s.kv_cache_share is not None else ""
    return f"{s.running or 0:.0f} at work, {s.waiting or 0:.0f} waiting{kv}"
