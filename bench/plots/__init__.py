"""A run's own plots, from its raw records: what the summary's figures look like underneath."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenhour.bench.plots import curves, timeline
from tokenhour.bench.recording.tables import read_table
from tokenhour.contracts.io.atomic_io import write_bytes_atomic, write_text_atomic
from tokenhour.contracts.plot_style import DPI, STYLE, TITLE
from tokenhour.contracts.records.probe import Probes
from tokenhour.contracts.records.request import REQUESTS_FILE, RequestRow
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.telemetry import TELEMETRY_FILE, TelemetryRow

FOLDER = "plots"


@dataclass(frozen=True, slots=True)
class RunPlot:
    """A plot to be drawn: its file name, which sorts it, what stands above it, its caption, and how."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Any]


def draw_run(folder: Path) -> list[Path]:
    """Draw a run's plots into folder/plots as PNG and SVG, each with its caption in a text file; return the PNGs."""
    summary, probes = Summary.read(folder), Probes.read(folder)
    requests = read_table(folder / REQUESTS_FILE, RequestRow)
    telemetry = read_table(folder / TELEMETRY_FILE, TelemetryRow)
    made = []
    standing = probes.model_copy(update={"probes": probes.standing()})
    for plot in plots(summary, standing, requests, telemetry):
        for suffix, data in _render(plot).items():
            write_bytes_atomic(folder / FOLDER / f"{plot.name}.{suffix}", data)
        write_text_atomic(folder / FOLDER / f"{plot.name}.txt", plot.caption + "\n")
        made.append(folder / FOLDER / f"{plot.name}.png")
    return made


def plots(summary: Summary, probes: Probes, requests: list[RequestRow], telemetry: list[TelemetryRow]) -> Iterator[RunPlot]:
    """Yield the plots that the records can fill."""
    at = f"p{summary.slo.percentile:g}"
    yield RunPlot(
        "1-throughput-latency",
        f"Latency against throughput: {summary.run}",
        f"Latency ({at}, from the scheduled arrival) against output throughput, a point a probe, with the objective. "
        "Hollow: the objective was missed, or the loop was closed.",
        lambda: curves.throughput_latency(summary),
    )
    yield RunPlot(
        "2-latency-cdf",
        f"Distributions of the latencies: {summary.run}",
        "Latencies of the requests scheduled inside each probe's window: the share that was at most so slow. Where a "
        f"line crosses {at} left of the red one, the objective was met; a failed request never arrives.",
        lambda: curves.cumulative(summary, probes, requests),
    )
    yield RunPlot(
        "3-timeline",
        f"The whole run on one clock: {summary.run}",
        "The whole run on one clock: output tokens a second, requests at work and waiting, KV cache, utilization and power. "
        "Grey: the steady windows that count.",
        lambda: timeline.timeline(probes, requests, telemetry),
    )
    if any(p.arrivals != "closed" for p in probes.probes):
        yield RunPlot(
            "4-arrivals",
            f"Arrivals against plan: {summary.run}",
            "Arrivals against plan: requests scheduled and sent since the probe's start, and how late each was sent.",
            lambda: timeline.arrivals(probes, requests),
        )


def _render(plot: RunPlot) -> dict[str, bytes]:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context(STYLE):
        figure = plot.draw()
        figure.suptitle(plot.title, **TITLE)
        png, svg = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
        figure.savefig(svg, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    return {"png": png.getvalue(), "svg": svg.getvalue()}
