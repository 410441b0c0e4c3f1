"""From raw records to the summary: the same pure derivation, right after the run or years later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench import metrics
from bench.validity import reasons as invalid_reasons
from contracts.bench_spec import BenchSpec
from contracts.checkpoint import Checkpoint
from contracts.experiment import Experiment
from contracts.probe import EngineCounters, Probe, Probes
from contracts.record import Interval
from contracts.request import RequestRow
from contracts.run import LoadPoint, Reason, Summary, TokensPerHour
from contracts.server import Server
from contracts.telemetry import TelemetryRow
from contracts.units import SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Raw:
    """What a run left: its probes, every request, every telemetry sample."""

    probes: Probes
    requests: Sequence[RequestRow]
    telemetry: Sequence[TelemetryRow]


@dataclass(frozen=True, slots=True)
class Series:
    """One telemetry metric over the run."""

    t_s: metrics.Floats
    value: metrics.Floats

    def inside(self, start_s: float, end_s: float) -> metrics.Floats:
        """Return the values sampled in [start, end]."""
        return self.value[(self.t_s >= start_s) & (self.t_s <= end_s)]

    def rate(self, start_s: float, end_s: float) -> float | None:
        """Return the mean increase a second of a counter, interpolated at the ends; None where it was not sampled."""
        if len(self.t_s) < 2 or start_s < self.t_s[0] - 2 or end_s > self.t_s[-1] + 2:
            return None
        low, high = np.interp([start_s, end_s], self.t_s, self.value)
        return float((high - low) / (end_s - start_s))


@dataclass(slots=True)
class Telemetry:
    """All samples by (source, index, metric)."""

    series: dict[tuple[str, str, str], Series] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Sequence[TelemetryRow]) -> Telemetry:
        """Group the samples."""
        grouped: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
        for row in rows:
            grouped.setdefault((row.source, row.index, row.metric), []).append((row.t_s, row.value))
        return cls({key: Series(*np.asarray(sorted(pairs)).T) for key, pairs in grouped.items()})

    def mean(self, source: str, metric: str, start_s: float, end_s: float) -> float | None:
        """Return a gauge's mean inside a window; None where nothing was sampled."""
        found = self.series.get((source, "", metric))
        values = found.inside(start_s, end_s) if found else np.empty(0)
        return float(values.mean()) if len(values) else None

    def peak(self, source: str, metric: str, start_s: float, end_s: float) -> float | None:
        """Return a gauge's largest value inside a window."""
        found = self.series.get((source, "", metric))
        values = found.inside(start_s, end_s) if found else np.empty(0)
        return float(values.max()) if len(values) else None

    def rate(self, source: str, metric: str, start_s: float, end_s: float) -> float | None:
        """Return a counter's increase a second inside a window."""
        found = self.series.get((source, "", metric))
        return found.rate(start_s, end_s) if found else None

    def energy_j(self, start_s: float, end_s: float) -> float | None:
        """Return the joules of all GPUs (else of the host's RAPL domains) over a window; None where unmeasured."""
        for wanted in ("gpu", "host"):
            rates = [
                s.rate(start_s, end_s)
                for (source, _, name), s in self.series.items()
                if (source, name) == (wanted, "energy_j")
            ]
            if rates:
                return None if any(r is None or r < 0 for r in rates) else sum(r or 0.0 for r in rates) * (end_s - start_s)
        return None


def load_point(probe: Probe, rows: Sequence[RequestRow], telemetry: Telemetry, bench: BenchSpec) -> LoadPoint:
    """Derive one probe's figures. `rows` are all requests of that probe."""
    start, end = probe.window_start_s, probe.window_start_s + probe.window_s
    inside = [row for row in rows if start <= row.scheduled_s < end]
    found = metrics.latencies(inside)
    closed = probe.arrivals == "closed"
    met, why = (None, ()) if closed else metrics.slo_reasons(found, bench.slo)
    _, tokens = metrics.emitted(rows, start, end)
    usage_in, usage_out = _usage(rows)
    engine_in = _difference(probe.before.prompt_tokens, probe.after.prompt_tokens)
    engine_out = _difference(probe.before.generation_tokens, probe.after.generation_tokens)
    at = bench.slo.percentile
    return LoadPoint(
        probe=probe.probe,
        phase=probe.phase,
        arrivals=probe.arrivals,
        offered_rps=probe.offered_rps,
        concurrency=probe.concurrency,
        window_start_s=start,
        window_s=probe.window_s,
        requests=len(inside),
        succeeded=len(inside) - found.failures,
        failed=found.failures,
        completed_rps=_ended(rows, start, end) / probe.window_s,
        goodput_rps=sum(metrics.meets(row, bench.slo) for row in inside) / probe.window_s,
        input_tps=sum(amount for _, amount in first_tokens(rows, start, end)) / probe.window_s,
        output_tps=float(tokens.sum()) / probe.window_s,
        ttft=metrics.percentiles(found.ttft, found.failures, at),
        ttft_from_sent=metrics.percentiles(found.ttft_from_sent, found.failures, at),
        tpot=metrics.percentiles(found.tpot, found.failures, at),
        e2e=metrics.percentiles(found.e2e, found.failures, at),
        interchunk=metrics.percentiles(found.interchunk, 0, at),
        lag_p99_s=metrics.percentile_with_failures(found.lag, 0, 99.0),
        slo_met=met,
        slo_reasons=why,
        stable=None if closed else metrics.is_stable(rows, start, end),
        usage_prompt_tokens=usage_in,
        usage_completion_tokens=usage_out,
        engine_prompt_tokens=engine_in,
        engine_generation_tokens=engine_out,
        token_disagreement=_disagreement(rows, ((usage_in, engine_in), (usage_out, engine_out))),
        prefix_hit_rate=_hit_rate(probe.before, probe.after),
        kv_cache_peak=telemetry.peak("engine", "kv_cache_share", start, end),
        host_cpu_share=telemetry.mean("host", "cpu_share", start, end),
        generator_cpu_share=telemetry.rate("generator", "cpu_s_total", start, end),
        energy_j=telemetry.energy_j(start, end),
    )


def _ended(rows: Sequence[RequestRow], start_s: float, end_s: float) -> int:
    return sum(
        1 for r in rows if r.outcome == "success" and r.last_token_s is not None and start_s <= r.last_token_s < end_s
    )


def first_tokens(rows: Sequence[RequestRow], start_s: float, end_s: float) -> list[tuple[float, int]]:
    """Return (time, prompt tokens) of each request whose first token fell inside the window."""
    return [
        (r.first_token_s, r.prompt_tokens or r.prompt_tokens_requested)
        for r in rows
        if r.first_token_s is not None and start_s <= r.first_token_s < end_s
    ]


def _usage(rows: Sequence[RequestRow]) -> tuple[int, int]:
    return sum(r.prompt_tokens or 0 for r in rows), sum(r.completion_tokens or 0 for r in rows)


def _difference(before: float | None, after: float | None) -> int | None:
    return None if before is None or after is None else round(after - before)


def _disagreement(rows: Sequence[RequestRow], pairs: tuple[tuple[int, int | None], ...]) -> float | None:
    """Return the largest relative difference between usage and the engine's counters, where every request succeeded.

    A failed request's tokens are counted by the engine but have no usage record, so that the two cannot be compared.
    """
    if any(row.outcome != "success" for row in rows):
        return None
    found = [
        abs(usage - engine) / max(usage, engine) for usage, engine in pairs if engine is not None and max(usage, engine)
    ]
    return max(found) if found else None


def _hit_rate(before: EngineCounters, after: EngineCounters) -> float | None:
    queries = _difference(before.prefix_queries, after.prefix_queries)
    hits = _difference(before.prefix_hits, after.prefix_hits)
    return hits / queries if queries and hits is not None else None


def passed(point: LoadPoint) -> bool:
    """Tell whether an open-loop probe met the SLO and was stable."""
    return point.slo_met is True and point.stable is True


def summarize(experiment: Experiment, checkpoint: Checkpoint, server: Server, raw: Raw, inputs: dict[str, str]) -> Summary:
    """Derive the summary of a run."""
    bench, telemetry = experiment.bench, Telemetry.of(raw.telemetry)
    by_probe = {p.probe: [r for r in raw.requests if r.probe == p.probe] for p in raw.probes.probes}
    points = [load_point(p, by_probe[p.probe], telemetry, bench) for p in raw.probes.probes]
    searched = [p for p in points if p.phase != "saturation"]
    best = max((p for p in searched if passed(p)), key=lambda p: p.offered_rps or 0.0, default=None)
    failing = [p.offered_rps for p in searched if not passed(p) and p.slo_met is not None and p.offered_rps]
    peak = next((p for p in points if p.phase == "saturation"), None)
    wrong = _wrong_lengths(raw.requests)
    drift = _drift(by_probe[peak.probe], peak) if peak else None
    why = [*invalid_reasons(points, best, bench, wrong, drift)]
    if raw.probes.interrupted:
        why.append(Reason(rule="the run did not end by itself", measured=raw.probes.interrupted, limit="a whole search"))
    good = [r for r in raw.requests if r.outcome == "success"]
    return Summary(
        run=experiment.run_name(server.scheme),
        scheme=server.scheme,
        model_name=checkpoint.model_name,
        engine=server.engine,
        accelerator=server.accelerator,
        workload=bench.workload,
        slo=bench.slo,
        validity="INVALID" if why else "VALID",
        reasons=tuple(why),
        warnings=tuple(_warnings(points, best)),
        peak=_per_hour(peak, by_probe, server.accelerator.count),
        at_slo=_per_hour(best, by_probe, server.accelerator.count) if best else None,
        highest_passing_rps=best.offered_rps if best else None,
        lowest_failing_rps=min(failing) if failing else None,
        load_curve=tuple(points),
        mean_prompt_tokens=_mean([r.prompt_tokens or 0 for r in good]),
        mean_output_tokens=_mean([r.completion_tokens or 0 for r in good]),
        measuring_s=sum(p.drained_s - p.started_s for p in raw.probes.probes),
        energy_j_per_output_token=_energy(best or peak),
        bytes_per_checkpoint=checkpoint.weight_bytes,
        perplexity_ratio=checkpoint.quality.perplexity_ratio if checkpoint.quality else None,
        mean_kl_divergence=checkpoint.quality.mean_kl_divergence.value if checkpoint.quality else None,
        quality_gate=checkpoint.quality.gate if checkpoint.quality else "none",
        cold_start_s=server.cold_start.ready_s,
        clock_anchor_utc=raw.probes.clock_anchor_utc,
        synthetic=server.synthetic,
        inputs=inputs,
    )


def _per_hour(point: LoadPoint | None, by_probe: dict[int, list[RequestRow]], accelerators: int) -> TokensPerHour:
    if point is None:
        nothing = Interval(value=0.0)
        return TokensPerHour(rate_rps=None, input_tokens_per_hour=nothing, output_tokens_per_hour=nothing)
    start, end = point.window_start_s, point.window_start_s + point.window_s
    rows = by_probe[point.probe]
    prompts = np.asarray(first_tokens(rows, start, end), dtype=np.float64).reshape(-1, 2)
    hourly = [
        metrics.rate_interval(prompts[:, 0], prompts[:, 1], start, end),
        metrics.rate_interval(*metrics.emitted(rows, start, end), start, end),
    ]
    scale = SECONDS_PER_HOUR / accelerators
    scaled = [Interval(value=i.value * scale, low=(i.low or 0) * scale, high=(i.high or 0) * scale) for i in hourly]
    return TokensPerHour(rate_rps=point.offered_rps, input_tokens_per_hour=scaled[0], output_tokens_per_hour=scaled[1])


def _wrong_lengths(rows: Sequence[RequestRow]) -> float:
    good = [r for r in rows if r.outcome == "success"]
    return sum(r.completion_tokens != r.output_tokens_requested for r in good) / len(good) if good else 0.0


def _drift(rows: Sequence[RequestRow], point: LoadPoint) -> float | None:
    middle = point.window_start_s + point.window_s / 2
    times, tokens = metrics.emitted(rows, point.window_start_s, point.window_start_s + point.window_s)
    if not len(times):
        return None
    first, second = float(tokens[times < middle].sum()), float(tokens[times >= middle].sum())
    return abs(first - second) / max(first, second)


def _energy(point: LoadPoint | None) -> float | None:
    if point is None or point.energy_j is None or not point.output_tps:
        return None
    return point.energy_j / (point.output_tps * point.window_s)


def _mean(values: Sequence[int]) -> float:
    return float(np.mean(values)) if values else 0.0


def _warnings(points: Sequence[LoadPoint], best: LoadPoint | None) -> list[str]:
    said = []
    if best is None:
        said.append("no tested rate met the SLO: there is no capacity at the SLO, only a peak")
    elif all(passed(p) for p in points if p.phase != "saturation"):
        said.append("every tested rate met the SLO: the capacity may be higher")
    if any(p.energy_j is None for p in points):
        said.append("energy was not measured: this machine offers no counter for it")
    if best and best.generator_cpu_share is not None and best.host_cpu_share is not None and best.host_cpu_share > 0.9:
        said.append(
            "the load generator ran on the same cores as the engine (at a raised priority where permitted) "
            f"and took {best.generator_cpu_share:.0%} of one of them"
        )
    return said
