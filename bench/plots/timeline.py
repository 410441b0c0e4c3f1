"""What happened when: one clock for load, engine and machine, and arrivals against plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tokenhour.bench.plots.curves import label, thin
from tokenhour.bench.statistics.metrics import emitted, taken_up_s
from tokenhour.contracts.plot_style import COLOURS, RED
from tokenhour.contracts.records.probe import Probes
from tokenhour.contracts.records.request import RequestRow
from tokenhour.contracts.records.telemetry import TelemetryRow

BIN_S = 1.0
Line = tuple[str, Any, Any]


def timeline(probes: Probes, requests: Sequence[RequestRow], telemetry: Sequence[TelemetryRow]) -> Any:
    """Draw a panel a quantity that was sampled; what a machine does not offer is left out."""
    from matplotlib import pyplot as plt

    end = max([p.drained_s for p in probes.probes] or [1.0])
    panels = [("output tokens/s", [("emitted", *_emitted(requests, end))]), *_panels(telemetry)]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(9.6, 0.7 + 1.35 * len(panels)), sharex=True, squeeze=False, layout="constrained"
    )
    for axis, (title, lines) in zip(axes[:, 0], panels, strict=True):
        for probe in probes.probes:
            axis.axvspan(probe.window_start_s, probe.window_start_s + probe.window_s, color="#eeeeee", linewidth=0)
        for index, (name, t, v) in enumerate(lines):
            x, y = thin(t, v)
            axis.plot(x, y, color=COLOURS[index % 7], linewidth=1.2, label=name)
        axis.set_title(title, fontsize=9.5, loc="left")
        axis.set_ylim(bottom=0)
        if len(lines) > 1:
            axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8.5)
    for probe in probes.probes:
        middle = probe.window_start_s + probe.window_s / 2
        place = (middle, 1.0)
        axes[0][0].annotate(label(probe), place, xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8)
    axes[0][0].set_title("output tokens/s", fontsize=9.5, loc="left", pad=14)
    axes[-1][0].set(xlabel="seconds of the run", xlim=(0, end))
    return figure


def _emitted(requests: Sequence[RequestRow], end_s: float) -> tuple[Any, Any]:
    edges = np.arange(0.0, end_s + BIN_S, BIN_S)
    times, tokens = emitted(list(requests), 0.0, end_s)
    found, _ = np.histogram(times, bins=edges, weights=tokens)
    return edges[:-1] + BIN_S / 2, found / BIN_S


def _panels(telemetry: Sequence[TelemetryRow]) -> list[tuple[str, list[Line]]]:
    series: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for row in telemetry:
        series.setdefault((row.source, row.metric, row.index), []).append((row.t_s, row.value))

    def lines(source: str, metric: str, name: str, *, scale: float = 1.0) -> list[Line]:
        found = []
        for (s, m, index), points in sorted(series.items()):
            if (s, m) == (source, metric):
                t, v = np.asarray(sorted(points)).T
                found.append((f"{name} {index}".strip(), t, v * scale))
        return found

    wanted = (
        ("requests", lines("engine", "requests_running", "at work") + lines("engine", "requests_waiting", "waiting")),
        ("KV cache in use, %", lines("engine", "kv_cache_share", "", scale=100)),
        ("GPU utilization, %", lines("gpu", "utilization_share", "GPU", scale=100)),
        ("GPU power, W", lines("gpu", "power_w", "GPU")),
        ("host CPU, %", lines("host", "cpu_share", "", scale=100)),
        ("preemptions so far", [one for one in lines("engine", "preemptions_total", "") if one[2].any()]),
    )
    return [(title, found) for title, found in wanted if found]


def arrivals(probes: Probes, requests: Sequence[RequestRow]) -> Any:
    """Draw cumulative counts of scheduled and taken up, and the lag of every request."""
    from matplotlib import pyplot as plt

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(9.6, 5.2), sharex=True, layout="constrained")
    shown = [p for p in probes.probes if p.arrivals != "closed"]
    for index, probe in enumerate(shown):
        rows = sorted((r for r in requests if r.probe == probe.probe), key=lambda r: r.scheduled_s)
        colour = COLOURS[index % 7]
        planned = np.array([r.scheduled_s - probe.started_s for r in rows])
        late = np.array([taken_up_s(r) for r in rows], dtype=float) - probe.started_s - planned  # None becomes nan
        count = np.arange(1, len(rows) + 1)
        top.step(*thin(planned, count), where="post", color=colour, linewidth=2.6, alpha=0.35)
        top.step(*thin(np.sort(planned + late), count), where="post", color=colour, linewidth=1, label=label(probe))
        x, y = thin(planned, 1000 * late)
        bottom.plot(x, y, color=colour, marker=".", markersize=4, linestyle="none")
    top.set(ylabel="requests", title="wide and pale: planned; thin: taken up")
    top.title.set_fontsize(9.5)
    top.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8.5, title="offered")
    bottom.axhline(0, color=RED, linewidth=0.8)
    bottom.set(xlabel="seconds since the probe's start", ylabel="taken up too late, ms")
    return figure
