"""From raw records to the summary: the same pure derivation, right after the run or years later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench import metrics
from bench.search import Bracket
from bench.subject import Subject
from bench.validity import Facts, bearing
from bench.validity import reasons as invalid_reasons
from bench.verdicts import hopeless, may_miss, worst_misses
from contracts.bench_spec import BenchSpec, SloSpec
from contracts.certificate import Certificate
from contracts.probe import Probe, Probes
from contracts.record import Interval
from contracts.request import RequestRow
from contracts.run import CertificateClaim, LoadPoint, Summary, TokensPerHour
from contracts.telemetry import TelemetryRow
from contracts.units import SECONDS_PER_HOUR

# NVML's reasons that mean "slower than it could be": software and hardware slow-down, thermal, power brake. Not: idle, a
# clock that its owner set, the power cap that a loaded GPU always touches.
THROTTLING = 0x8 | 0x20 | 0x40 | 0x80
UNUSED_PREFIXES = 0.10  # of the prompt tokens: a difference to speak of


@dataclass(frozen=True, slots=True)
class Raw:
    """What a run left: its probes, every request, every telemetry sample."""

    probes: Probes
    requests: Sequence[RequestRow]
    telemetry: Sequence[TelemetryRow]
    certificate: Certificate | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """One telemetry metric over the run."""

    t_s: metrics.Floats
    value: metrics.Floats

    def inside(self, start_s: float, end_s: float) -> metrics.Floats:
        """Return the values sampled in [start, end]."""
        return self.value[(self.t_s >= start_s) & (self.t_s <= end_s)]

    def falls(self, start_s: float, end_s: float) -> bool:
        """Tell whether a counter fell over a window: it ran over (RAPL's does, within the hour), or began anew."""
        first, last = np.searchsorted(self.t_s, start_s, "right") - 1, np.searchsorted(self.t_s, end_s, "left") + 1
        return bool((np.diff(self.value[max(0, first) : last]) < 0).any())

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
    on_cpu: bool = False
    """What was measured computes on a CPU."""

    @classmethod
    def of(cls, rows: Sequence[TelemetryRow], *, on_cpu: bool = False) -> Telemetry:
        """Group the samples."""
        grouped: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
        for row in rows:
            grouped.setdefault((row.source, row.index, row.metric), []).append((row.t_s, row.value))
        return cls({key: Series(*np.asarray(sorted(pairs)).T) for key, pairs in grouped.items()}, on_cpu)

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
        """Return a counter's increase a second inside a window: the largest of its kind, such as of several workers."""
        rates = [s.rate(start_s, end_s) for (a, _, b), s in self.series.items() if (a, b) == (source, metric)]
        return max((r for r in rates if r is not None), default=None)

    def throttled(self, start_s: float, end_s: float) -> float | None:
        """Return the largest share of samples, over GPUs, with a clock that was throttled; None without such samples."""
        shares = [
            float(np.mean([int(v) & THROTTLING != 0 for v in values]))
            for (source, _, name), s in self.series.items()
            if (source, name) == ("gpu", "throttle_reasons") and len(values := s.inside(start_s, end_s))
        ]
        return max(shares, default=None)

    def blind_s(self, start_s: float, end_s: float) -> float:
        """Return the longest time of a window without a sample of a GPU; one that was lost is told of elsewhere."""
        lost = {index for _, index, name in self.series if name == "lost"}
        times: dict[str, list[metrics.Floats]] = {}
        for (source, index, name), s in self.series.items():
            if source == "gpu" and name != "xid":  # an event, no reading
                times.setdefault(index, []).append(s.t_s)
        if not times:
            return end_s - start_s
        gaps = [_longest_gap(np.concatenate(found), start_s, end_s) for index, found in times.items() if index not in lost]
        return max(gaps, default=0.0)

    def energy_j(self, start_s: float, end_s: float) -> float | None:
        """Return the joules that what was measured took over a window; None where they are not known.

        Those of its GPUs; of a CPU engine those of this host (RAPL), where its process is one of this host. A GPU without a
        counter and a server elsewhere have none: this host's would be another machine's.
        """
        here = self.on_cpu and any(source == "process" for source, _, _ in self.series)
        wanted = "host" if here else "gpu"
        found = [s for (source, _, name), s in self.series.items() if (source, name) == (wanted, "energy_j")]
        rates = [None if s.falls(start_s, end_s) else s.rate(start_s, end_s) for s in found]
        known = [r for r in rates if r is not None]
        return sum(known) * (end_s - start_s) if known and len(known) == len(rates) else None


def _longest_gap(times_s: metrics.Floats, start_s: float, end_s: float) -> float:
    inside = np.sort(times_s[(times_s > start_s) & (times_s < end_s)])
    return float(np.diff(np.concatenate([[start_s], inside, [end_s]])).max())


def load_point(probe: Probe, rows: Sequence[RequestRow], telemetry: Telemetry, bench: BenchSpec) -> LoadPoint:
    """Derive one probe's figures. `rows` are all requests of that probe."""
    start, end = probe.window_start_s, probe.window_start_s + probe.window_s
    inside = [row for row in rows if start <= row.scheduled_s < end]
    found = metrics.latencies(inside)
    closed = probe.arrivals == "closed"
    met, why = (None, ()) if closed else _judge(probe, rows, found, bench)
    times, tokens = metrics.emitted(rows, start, end)
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
        succeeded=sum(1 for r in inside if r.outcome == "success"),
        failed=found.failures,
        completed_rps=_ended(rows, start, end) / probe.window_s,
        goodput_rps=sum(metrics.meets(row, bench.slo) for row in inside) / probe.window_s,
        input_tps=sum(amount for _, amount in first_tokens(rows, start, end)) / probe.window_s,
        output_tps=float(tokens.sum()) / probe.window_s,
        ttft=metrics.percentiles(found.ttft, found.failures, at),
        ttft_from_sent=metrics.percentiles(found.ttft_from_sent, found.failures, at),
        tpot=metrics.percentiles(found.tpot, found.failures, at),
        e2e=metrics.percentiles(found.e2e, found.failures, at),
        e2e_from_sent=metrics.percentiles(found.e2e_from_sent, found.failures, at),
        interchunk=metrics.percentiles(found.interchunk, found.failures, at),
        lag_p99_s=metrics.percentile_with_failures(found.lag, 0, 99.0),
        slo_met=met,
        slo_reasons=why,
        stable=None if closed else metrics.is_stable(rows, start, end),
        stopped_early=probe.stopped_early,
        chunks_per_s=len(times) / probe.window_s,
        usage_prompt_tokens=usage_in,
        usage_completion_tokens=usage_out,
        engine_prompt_tokens=engine_in,
        engine_generation_tokens=engine_out,
        token_disagreement=_disagreement(rows, ((usage_in, engine_in), (usage_out, engine_out))),
        prefix_hit_rate=_hit_rate(probe, rows),
        kv_cache_peak=telemetry.peak("engine", "kv_cache_share", start, end),
        host_cpu_share=telemetry.mean("host", "cpu_share", start, end),
        generator_cpu_share=telemetry.rate("generator", "cpu_s_total", start, end),
        energy_j=telemetry.energy_j(start, end),
        expected_prefix_hit_rate=probe.expected_prefix_hit_rate,
        missed_share=None if closed else _missed(inside, bench.slo),
        tpot_left_out=found.single_chunk,
    )


def _missed(inside: Sequence[RequestRow], slo: SloSpec) -> float | None:
    known = sum(row.outcome != "cancelled" for row in inside)
    return worst_misses(inside, slo) / known if known else None


def _judge(
    probe: Probe, rows: Sequence[RequestRow], found: metrics.Latencies, bench: BenchSpec
) -> tuple[bool | None, tuple[str, ...]]:
    """Judge the SLO; a probe that was stopped early is judged against all that was planned for its window."""
    if not probe.stopped_early or probe.planned_requests is None or probe.planned_window_s is None:
        return metrics.slo_reasons(found, bench.slo)
    end = probe.window_start_s + probe.planned_window_s
    missed = worst_misses((r for r in rows if probe.window_start_s <= r.scheduled_s < end), bench.slo)
    allowed = may_miss(probe.planned_requests, bench.slo.percentile)
    if missed > allowed:
        return False, (f"stopped early: {missed} of {probe.planned_requests} requests missed a bound, {allowed} may",)
    if hopeless(rows):
        return False, ("stopped early: most requests failed",)
    return None, (f"stopped early after {len(found.ttft)} requests",)


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
    """Return the largest relative difference between usage, the engine's counters and the caps of the requests.

    A failed request's tokens are counted by the engine but have no usage record, so that those two can be compared only
    where every request succeeded. None: they could not be, and no usage is above its cap.
    """
    over = _over_cap(rows)
    found = [over] if over else []
    if all(row.outcome == "success" for row in rows):
        found += [
            abs(usage - engine) / max(usage, engine) for usage, engine in pairs if engine is not None and max(usage, engine)
        ]
    return max(found, default=None)


def _over_cap(rows: Sequence[RequestRow]) -> float:
    """Return the share of the completion tokens that lie above what their request allowed."""
    told = [(r.completion_tokens, r.output_tokens_requested) for r in rows if r.completion_tokens is not None]
    total = sum(usage for usage, _ in told)
    return sum(max(0, usage - cap) for usage, cap in told) / total if total else 0.0


def _hit_rate(probe: Probe, rows: Sequence[RequestRow]) -> float | None:
    """Return the share of prompt tokens that the prefix cache found: by the engine's counters, else by the usage records.

    vLLM leaves `cached_tokens` out where they are none, so that a request without them counts as one of 0 where others of
    the probe have some. None: neither the engine nor a request says anything.
    """
    queries = _difference(probe.before.prefix_queries, probe.after.prefix_queries)
    hits = _difference(probe.before.prefix_hits, probe.after.prefix_hits)
    if queries and hits is not None:
        return hits / queries
    good = [r for r in rows if r.outcome == "success" and r.prompt_tokens]
    if all(r.cached_tokens is None for r in good):
        return None
    return sum(r.cached_tokens or 0 for r in good) / sum(r.prompt_tokens or 0 for r in good)


def passed(point: LoadPoint) -> bool:
    """Tell whether an open-loop probe met the SLO and was stable."""
    return point.slo_met is True and point.stable is True


def with_point(found: Bracket, point: LoadPoint, slo: SloSpec) -> Bracket:
    """Return the search's bracket after one more probe."""
    known = None if point.slo_met is None else point.missed_share
    may = 1 - slo.percentile / 100
    return found.add(point.offered_rps or 0.0, passed=passed(point), missed=known, may=may)


def bracket_of(points: Sequence[LoadPoint], slo: SloSpec) -> Bracket:
    """Judge the probes of a search together, as the search itself did."""
    found = Bracket(0.0)
    for point in points:
        found = with_point(found, point, slo)
    return found


def ends(kind: str, points: Sequence[LoadPoint], slo: SloSpec) -> tuple[LoadPoint | None, float | None]:
    """Return the best point and the lowest failing rate above it; a rate of too few samples was not seen to fail."""
    seen = {p.offered_rps for p in points if p.slo_met is not None}
    if kind == "search":
        found = bracket_of(points, slo)
        best = next((p for p in points if p.offered_rps == found.highest_passing_rps and passed(p)), None)
        failing = [rate for rate, excess in found.pooled().items() if excess > 0 and rate in seen]
    else:
        best = best_point(points)
        failing = [p.offered_rps for p in points if p.offered_rps in seen and not passed(p) and p.offered_rps]
    return best, min((rate for rate in failing if best is None or rate > (best.offered_rps or 0.0)), default=None)


def summarize(subject: Subject, raw: Raw, inputs: dict[str, str]) -> Summary:
    """Derive the summary of a run."""
    bench, telemetry = subject.bench, Telemetry.of(raw.telemetry, on_cpu=subject.accelerator.kind == "cpu")
    by_probe = _by_probe(raw)
    points = [load_point(p, by_probe[p.probe], telemetry, bench) for p in raw.probes.probes]
    open_loop = [p for p in points if p.arrivals != "closed"]
    best, lowest_failing = ends(raw.probes.wanted, open_loop, bench.slo)
    peak = peak_point(points)
    facts = Facts(
        kind=raw.probes.wanted,
        wrong_lengths=_wrong_lengths(raw.requests) if subject.exact_output else 0.0,
        wrong_prompts=_wrong_prompts(raw.requests) if subject.exact_prompts else 0.0,
        drift=_drift(by_probe[peak.probe], peak) if peak else None,
        xids=tuple(dict.fromkeys(f"{row.value:.0f} of GPU {row.index}" for row in raw.telemetry if row.metric == "xid")),
        lost_gpus=tuple(sorted({row.index for row in raw.telemetry if row.metric == "lost"})),
        throttled={p.probe: telemetry.throttled(*window(p)) for p in points},
        blind_s={p.probe: telemetry.blind_s(*window(p)) for p in points} if subject.gpus_read else {},
        interrupted=raw.probes.interrupted,
        ceiling_chunks_per_s=raw.certificate.ceiling_chunks_per_s if raw.certificate else None,
        ceiling_requests_per_s=raw.certificate.ceiling_requests_per_s if raw.certificate else None,
    )
    why = invalid_reasons(points, best, bench, facts)
    good = [r for r in raw.requests if r.outcome == "success"]
    return Summary(
        run=subject.run,
        scheme=subject.scheme,
        model_name=subject.model_name,
        engine=subject.engine,
        accelerator=subject.accelerator,
        workload=bench.workload,
        slo=bench.slo,
        validity="INVALID" if why else "VALID",
        reasons=why,
        warnings=(
            *_uncertified(raw),
            *subject.notes,
            *_unmeasured_generators(raw.probes, telemetry, bearing(points, best)),
            *_unchecked(subject, raw, bearing(points, best)),
            *_warnings(points, best),
        ),
        peak=_per_hour([peak] if peak else [], by_probe, subject.accelerators_used),
        at_slo=_per_hour(_repeats_of(best, open_loop), by_probe, subject.accelerators_used) if best else None,
        highest_passing_rps=best.offered_rps if best else None,
        lowest_failing_rps=lowest_failing,
        load_curve=tuple(points),
        mean_prompt_tokens=_mean([r.prompt_tokens or 0 for r in good]),
        mean_output_tokens=_mean([r.completion_tokens or 0 for r in good]),
        measuring_s=sum(p.drained_s - p.started_s for p in raw.probes.probes),
        energy_j_per_output_token=_energy(best or peak),
        bytes_per_checkpoint=subject.bytes_per_checkpoint,
        perplexity_ratio=subject.perplexity_ratio,
        mean_kl_divergence=subject.mean_kl_divergence,
        quality_gate=subject.quality_gate,
        cold_start_s=subject.cold_start_s,
        clock_anchor_utc=raw.probes.clock_anchor_utc,
        synthetic=subject.synthetic,
        certificate=_claim(raw.certificate, points),
        uncertified=None if raw.certificate else raw.probes.uncertified,
        inputs=inputs,
    )


def window(point: LoadPoint) -> tuple[float, float]:
    """Return the steady window of a probe, s on the run's clock."""
    return point.window_start_s, point.window_start_s + point.window_s


def _by_probe(raw: Raw) -> dict[int, list[RequestRow]]:
    found: dict[int, list[RequestRow]] = {p.probe: [] for p in raw.probes.probes}
    for row in raw.requests:
        if row.probe in found:
            found[row.probe].append(row)
    return found


def best_point(points: Sequence[LoadPoint]) -> LoadPoint | None:
    """Return the point of the highest rate that met the SLO, where its repeats do not outvote it."""

    def holds(point: LoadPoint) -> bool:
        votes = [passed(p) for p in points if p.offered_rps == point.offered_rps]
        return votes.count(True) >= votes.count(False)

    return max((p for p in points if passed(p) and holds(p)), key=lambda p: p.offered_rps or 0.0, default=None)


def _repeats_of(best: LoadPoint | None, points: Sequence[LoadPoint]) -> list[LoadPoint]:
    return [p for p in points if best is not None and p.offered_rps == best.offered_rps and not p.stopped_early]


def peak_point(points: Sequence[LoadPoint]) -> LoadPoint | None:
    """Return the saturated probe, or the one of the highest throughput where none was made."""
    saturated = next((p for p in points if p.phase == "saturation"), None)
    return saturated or max(points, key=lambda p: p.output_tps, default=None)


def _claim(certificate: Certificate | None, points: Sequence[LoadPoint]) -> CertificateClaim | None:
    if certificate is None:
        return None
    return CertificateClaim(
        ceiling_chunks_per_s=certificate.ceiling_chunks_per_s,
        ceiling_requests_per_s=certificate.ceiling_requests_per_s,
        ttft_error_p99_s=certificate.ttft_error_p99_s,
        interchunk_error_p99_s=certificate.interchunk_error_p99_s,
        highest_chunks_per_s=max((p.chunks_per_s for p in points), default=0.0),
    )


def _per_hour(points: Sequence[LoadPoint], by_probe: dict[int, list[RequestRow]], accelerators: int) -> TokensPerHour:
    """Return tokens per accelerator-hour over one probe, or over a rate's probe and its repeats together."""
    if not points:
        nothing = Interval(value=0.0)
        return TokensPerHour(rate_rps=None, input_tokens_per_hour=nothing, output_tokens_per_hour=nothing)
    prompts, outputs = [], []
    for point in points:
        rows, inside = by_probe[point.probe], window(point)
        pairs = np.asarray(first_tokens(rows, *inside), dtype=np.float64).reshape(-1, 2)
        prompts.append(metrics.batch_rates(pairs[:, 0], pairs[:, 1], *inside))
        outputs.append(metrics.batch_rates(*metrics.emitted(rows, *inside), *inside))
    scale = SECONDS_PER_HOUR / accelerators
    hourly = [metrics.interval_of(np.concatenate(found) * scale) for found in (prompts, outputs)]
    return TokensPerHour(rate_rps=points[0].offered_rps, input_tokens_per_hour=hourly[0], output_tokens_per_hour=hourly[1])


def _wrong_lengths(rows: Sequence[RequestRow]) -> float:
    good = [r for r in rows if r.outcome == "success"]
    return sum(r.completion_tokens != r.output_tokens_requested for r in good) / len(good) if good else 0.0


def _wrong_prompts(rows: Sequence[RequestRow]) -> float:
    """Return the prompt tokens by which requests were longer or shorter than asked for, over those asked for.

    Request by request: one that is longer does not make up for one that is shorter.
    """
    good = [r for r in rows if r.outcome == "success"]
    counted = [(r.prompt_tokens, r.prompt_tokens_requested) for r in good if r.prompt_tokens is not None]
    asked = sum(wanted for _, wanted in counted)
    return sum(abs(found - wanted) for found, wanted in counted) / asked if asked else 0.0


def _drift(rows: Sequence[RequestRow], point: LoadPoint) -> float | None:
    middle = point.window_start_s + point.window_s / 2
    times, tokens = metrics.emitted(rows, *window(point))
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


def _uncertified(raw: Raw) -> list[str]:
    return [raw.probes.uncertified] if raw.probes.uncertified and not raw.certificate else []


def _unmeasured_generators(probes: Probes, telemetry: Telemetry, bearing_points: Sequence[LoadPoint]) -> list[str]:
    """Say how many load processes nobody knows the CPU use of, or in which probes: saturation would not be noticed there."""
    count = max((p.workers for p in probes.probes), default=1)
    # Where there are several, the master is a generator too, and has the empty index.
    known = sum(kind == "generator" and metric == "cpu_s_total" and index != "" for kind, index, metric in telemetry.series)
    if count > 1 and known < count:
        return [
            f"the CPU use of {count - known} of {count} load workers was not measured: their saturation would not be noticed"
        ]
    blind = ", ".join(str(p.probe) for p in bearing_points if p.generator_cpu_share is None)
    if not blind:
        return []
    return [f"the CPU use of the load generator was not measured in probe {blind}: its saturation would not be noticed"]


def _unchecked(subject: Subject, raw: Raw, bearing_points: Sequence[LoadPoint]) -> list[str]:
    """Say which rules of validity could not be applied to any of the probes that bear the result."""
    said: list[str] = []
    if not bearing_points:
        return said
    if subject.engine_counters and all(p.token_disagreement is None for p in bearing_points):
        why = "a request failed, the probe was stopped early, or the counters were not readable"
        said.append(f"no probe that bears the result could be held against the engine's token counters: {why}")
    # A counter that stands still is a cache that is off: that is known, though there is no rate.
    counted = any(p.after.prefix_queries is not None for p in raw.probes.probes)
    if not counted and all(p.prefix_hit_rate is None for p in bearing_points):
        said.append("neither engine counters nor usage say what the prefix cache found: its hit rate was not checked")
    return said


def _unused_prefixes(points: Sequence[LoadPoint]) -> list[str]:
    """Say where the prefix cache found much less than the workload repeats."""
    known = [p for p in points if p.expected_prefix_hit_rate and p.prefix_hit_rate is not None]
    gaps = [(p.expected_prefix_hit_rate or 0.0, p.prefix_hit_rate or 0.0) for p in known]
    expected, found = max(gaps, key=lambda pair: pair[0] - pair[1], default=(0.0, 0.0))
    if expected - found <= UNUSED_PREFIXES:
        return []
    said = f"the workload repeats {expected:.0%} of its prompt tokens and the prefix cache found {found:.0%}"
    return [f"{said}: it is off, too small, or its blocks are long"]


def _warnings(points: Sequence[LoadPoint], best: LoadPoint | None) -> list[str]:
    said = _unused_prefixes(points)
    rates = [p for p in points if p.arrivals != "closed"]
    if best is None and rates:
        said.append("no tested rate met the SLO: there is no capacity at the SLO, only a peak")
    elif rates and all(passed(p) for p in rates):
        said.append("every tested rate met the SLO: the capacity may be higher")
    if any(p.energy_j is None for p in points):
        said.append("energy was not measured: no counter of what serves could be read throughout")
    if best and best.generator_cpu_share is not None and best.host_cpu_share is not None and best.host_cpu_share > 0.9:
        said.append(
            "the load generator ran on the same cores as the engine (at a raised priority where permitted) "
            f"and took {best.generator_cpu_share:.0%} of one of them"
        )
    return said
