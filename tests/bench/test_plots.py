"""A run's plots are drawn from its raw records, whatever a machine did not offer."""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from pathlib import Path

from click.testing import CliRunner

from tests.bench.rows import row
from tests.breakeven.summaries import summary
from tokenhour.bench.cli import cli
from tokenhour.bench.recording.tables import write_table
from tokenhour.contracts.records.probe import EngineCounters, Probe, Probes
from tokenhour.contracts.records.request import REQUESTS_FILE, RequestRow
from tokenhour.contracts.records.telemetry import TELEMETRY_FILE, TelemetryRow

NAMES = ("1-throughput-latency", "2-latency-cdf", "3-timeline", "4-arrivals")


def probe(number: int, rate: float | None, start: float) -> Probe:
    """Return a probe of a search, or of saturation where there is no rate."""
    return Probe(
        probe=number, phase="search" if rate else "saturation", arrivals="poisson" if rate else "closed", offered_rps=rate,
        concurrency=None if rate else 4, started_s=start, window_start_s=start + 1, window_s=8.0, drained_s=start + 11,
        stopped_early=False, before=EngineCounters(), after=EngineCounters(),
    )  # fmt: skip


def write_run(folder: Path, *, telemetry: Iterable[TelemetryRow] = (), probes: Sequence[Probe] | None = None) -> Path:
    """Write a run folder with regular requests in each probe."""
    probes = [probe(0, None, 0.0), probe(1, 5.0, 12.0)] if probes is None else probes
    Probes(
        clock_anchor_utc="2026-01-01T00:00:00+00:00", clock_zero_monotonic_s=0.0, salt="", probes=tuple(probes),
        interrupted=None,
    ).write(folder)  # fmt: skip
    rows = [row(p.started_s + k / 5, lag=0.002, probe=p.probe) for p in probes for k in range(50)]
    write_table(folder / REQUESTS_FILE, rows, RequestRow)
    write_table(folder / TELEMETRY_FILE, telemetry, TelemetryRow)
    summary().write(folder)
    return folder


def drawn(folder: Path) -> dict[str, Path]:
    """Draw a run's plots and return the SVG files by name."""
    done = CliRunner().invoke(cli, ["plot", str(folder)], catch_exceptions=False)
    assert done.exit_code == 0
    return {file.stem: file for file in (folder / "plots").glob("*.svg")}


def test_every_plot_has_png_svg_and_a_caption(tmp_path: Path) -> None:
    """Each figure can be pasted anywhere, and its text file explains it."""
    samples = [TelemetryRow(t / 2, s, i, m, v) for t in range(40) for s, i, m, v in SAMPLES]
    found = drawn(write_run(tmp_path, telemetry=samples))
    assert tuple(sorted(found)) == NAMES
    for svg in found.values():
        assert ET.parse(svg).getroot().tag.endswith("svg")
        assert svg.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert len(svg.with_suffix(".txt").read_text()) > 40
    timeline = found["3-timeline"].read_text()
    for title in ("output tokens/s", "requests", "KV cache in use", "GPU utilization", "GPU power", "host CPU"):
        assert title in timeline


SAMPLES = (
    ("engine", "", "requests_running", 3.0), ("engine", "", "requests_waiting", 1.0), ("engine", "", "kv_cache_share", 0.2),
    ("gpu", "0", "utilization_share", 0.9), ("gpu", "1", "utilization_share", 0.8), ("gpu", "0", "power_w", 300.0),
    ("host", "", "cpu_share", 0.4),
)  # fmt: skip


def test_what_was_not_sampled_is_left_out(tmp_path: Path) -> None:
    """A machine without a GPU gets no empty panel."""
    text = drawn(write_run(tmp_path))["3-timeline"].read_text()
    assert "output tokens/s" in text
    assert "GPU power" not in text


def test_a_closed_loop_alone_has_no_plan_to_keep(tmp_path: Path) -> None:
    """Without an arrival schedule there is no plot of keeping to it."""
    assert tuple(sorted(drawn(write_run(tmp_path, probes=[probe(0, None, 0.0)])))) == NAMES[:3]


def test_a_run_without_a_single_probe_can_still_be_drawn(tmp_path: Path) -> None:
    """A run that failed at once does not crash the plotting."""
    assert tuple(sorted(drawn(write_run(tmp_path, probes=[])))) == NAMES[:3]
