"""One probe's figures: from its requests and the telemetry of its window to a point of the load curve."""

from __future__ import annotations

from collections.abc import Sequence

from tokenhour.bench.statistics import metrics
from tokenhour.bench.statistics.early_stop import hopeless
from tokenhour.bench.statistics.slo import may_miss, meets, slo_reasons, worst_misses
from tokenhour.bench.telemetry.series import Telemetry
from tokenhour.contracts.config.bench import BenchSpec, SloSpec
from tokenhour.contracts.records.probe import Probe
from tokenhour.contracts.records.request import RequestRow
from tokenhour.contracts.records.summary import LoadPoint


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
        goodput_rps=sum(meets(row, bench.slo) for row in inside) / probe.window_s,
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
        generator_wait_s=telemetry.worst_second("generator", "run_queue_wait_s_total", start, end),
        steal_s=telemetry.worst_second("host", "steal_s_total", start, end),
    )


def window(point: LoadPoint) -> tuple[float, float]:
    """Return the steady window of a probe, s on the run's clock."""
    return point.window_start_s, point.window_start_s + point.window_s


def drift(rows: Sequence[RequestRow], point: LoadPoint) -> float | None:
    """Return by how much the output throughput of a window's halves differs, over the larger; None without any token."""
    middle = point.window_start_s + point.window_s / 2
    times, tokens = metrics.emitted(rows, *window(point))
    if not len(times):
        return None
    first, second = float(tokens[times < middle].sum()), float(tokens[times >= middle].sum())
    return abs(first - second) / max(first, second)


def _missed(inside: Sequence[RequestRow], slo: SloSpec) -> float | None:
    known = sum(row.outcome != "cancelled" for row in inside)
    return worst_misses(inside, slo) / known if known else None


def _judge(
    probe: Probe, rows: Sequence[RequestRow], found: metrics.Latencies, bench: BenchSpec
) -> tuple[bool | None, tuple[str, ...]]:
    """Judge the SLO; a probe that was stopped early is judged against all that was planned for its window."""
    if not probe.stopped_early or probe.planned_requests is None or probe.planned_window_s is None:
        return slo_reasons(found, bench.slo)
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
