"""A probe of regular requests, and the summary of its raw records."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from tests import records
from tests.bench.rows import row
from tokenhour.bench.summary.load_point import load_point
from tokenhour.bench.summary.run_facts import Subject
from tokenhour.bench.summary.summarize import Raw, summarize
from tokenhour.bench.telemetry.series import Telemetry
from tokenhour.contracts.config.bench import BenchSpec
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.probe import EngineCounters, Probe, Probes
from tokenhour.contracts.records.request import RequestRow
from tokenhour.contracts.records.summary import LoadPoint, Summary
from tokenhour.contracts.records.telemetry import TelemetryRow

BENCH = BenchSpec.model_validate(
    {
        "workload": {"prompt": {"mean_tokens": 20}, "output": {"mean_tokens": 5}},
        "slo": {"percentile": 50, "ttft_s": 1},
        "arrivals": {"rates_rps": [10]},
    }
)
ROWS = [row(k * 0.1) for k in range(100)]
COUNTED = EngineCounters(prompt_tokens=2000, generation_tokens=500)
ZERO = EngineCounters(prompt_tokens=0, generation_tokens=0)


def probe(before: EngineCounters = ZERO, after: EngineCounters = COUNTED) -> Probe:
    """Return the record of a probe with these counters."""
    return Probe(
        probe=0, phase="fixed", arrivals="poisson", offered_rps=10, concurrency=None, started_s=0, window_start_s=0,
        window_s=10, drained_s=11, stopped_early=False, before=before, after=after,
    )  # fmt: skip


def point(rows: Sequence[RequestRow] = ROWS, before: EngineCounters = ZERO, after: EngineCounters = COUNTED) -> LoadPoint:
    """Return the load point of these rows."""
    return load_point(probe(before, after), rows, Telemetry(), BENCH)


def summary(
    rows: Sequence[RequestRow] = ROWS,
    before: EngineCounters = ZERO,
    after: EngineCounters = COUNTED,
    telemetry: Iterable[TelemetryRow] = (),
    kind: str = "cpu",
    interrupted: str | None = None,
    **about: Any,
) -> Summary:
    """Summarize one probe of these raw records."""
    probes = Probes(
        clock_anchor_utc=records.WHEN, clock_zero_monotonic_s=0, salt="s", probes=(probe(before, after),), wanted="fixed",
        interrupted=interrupted,
    )  # fmt: skip
    machine = Accelerator(kind=kind, name="", count=1, memory_bytes=0)
    subject = Subject("run", "none", "model", "engine", machine, 1, BENCH, **about)
    return summarize(subject, Raw(probes, rows, tuple(telemetry)), {})


def rules(found: Summary) -> list[str]:
    """Return the rules that a summary says were broken."""
    return [r.rule for r in found.reasons]


def with_cached(*cached: int | None) -> list[RequestRow]:
    """Make rows of 20 prompt tokens each, so many of which came from the cache by their usage."""
    return [replace(r, cached_tokens=c) for r, c in zip(ROWS, cached * (100 // len(cached)), strict=True)]


def samples(source: str, metric: str, values: Iterable[float], index: str = "") -> list[TelemetryRow]:
    """Make a sample a second from 0 on."""
    return [TelemetryRow(float(t), source, index, metric, float(v)) for t, v in enumerate(values)]


GPU = samples("gpu", "throttle_reasons", [0] * 12, "0")
