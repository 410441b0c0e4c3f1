"""From raw records to the summary: the same pure derivation, right after the run or years later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tokenhour.bench.statistics import metrics
from tokenhour.bench.summary.capacity import ends, peak_point, repeats_of
from tokenhour.bench.summary.load_point import drift, first_tokens, load_point, window
from tokenhour.bench.summary.notes import (
    SummaryNote,
    cpu_remarks,
    odd_points,
    repeated,
    uncertified,
    unchecked,
    unmeasured_generators,
)
from tokenhour.bench.summary.run_facts import Subject
from tokenhour.bench.summary.validity import Facts, bearing, disturbances
from tokenhour.bench.summary.validity import reasons as invalid_reasons
from tokenhour.bench.telemetry.series import Telemetry
from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.probe import Probes
from tokenhour.contracts.records.request import RequestRow
from tokenhour.contracts.records.summary import CertificateClaim, LoadPoint, Summary, TokensPerHour
from tokenhour.contracts.records.telemetry import TelemetryRow
from tokenhour.contracts.standalone.generator_certificate import Certificate
from tokenhour.contracts.units import SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Raw:
    """What a run left: its probes, every request, every telemetry sample."""

    probes: Probes
    requests: Sequence[RequestRow]
    telemetry: Sequence[TelemetryRow]
    certificate: Certificate | None = None


def summarize(subject: Subject, raw: Raw, inputs: dict[str, str]) -> Summary:
    """Derive the summary of a run."""
    bench, telemetry = subject.bench, Telemetry.of(raw.telemetry, on_cpu=subject.accelerator.kind == "cpu")
    by_probe = _by_probe(raw)
    standing = {p.probe for p in raw.probes.standing()}
    measured = [load_point(p, by_probe[p.probe], telemetry, bench) for p in raw.probes.probes]
    points = [p for p in measured if p.probe in standing]
    disturbed = [p for p in measured if p.probe not in standing]
    open_loop = [p for p in points if p.arrivals != "closed"]
    best, lowest_failing = ends(raw.probes.wanted, open_loop, bench.slo)
    peak = peak_point(points)
    facts = Facts(
        kind=raw.probes.wanted,
        wrong_lengths=_wrong_lengths(raw.requests) if subject.exact_output else 0.0,
        wrong_prompts=_wrong_prompts(raw.requests) if subject.exact_prompts else 0.0,
        drift=drift(by_probe[peak.probe], peak) if peak else None,
        xids=tuple(dict.fromkeys(f"{row.value:.0f} of GPU {row.index}" for row in raw.telemetry if row.metric == "xid")),
        lost_gpus=tuple(sorted({row.index for row in raw.telemetry if row.metric == "lost"})),
        throttled={p.probe: telemetry.throttled(*window(p)) for p in points},
        blind_s={p.probe: telemetry.blind_s(*window(p)) for p in points} if subject.gpus_read else {},
        interrupted=raw.probes.interrupted,
        cpu_priority=raw.probes.cpu_priority,
        ceiling_chunks_per_s=raw.certificate.ceiling_chunks_per_s if raw.certificate else None,
        ceiling_requests_per_s=raw.certificate.ceiling_requests_per_s if raw.certificate else None,
    )
    why = invalid_reasons(points, best, bench, facts)
    warnings = (
        *uncertified(raw.probes, raw.certificate),
        *(SummaryNote("server", said) for said in subject.notes),
        *unmeasured_generators(raw.probes, telemetry, bearing(points, best)),
        *unchecked(subject, raw.probes, bearing(points, best)),
        *odd_points(points, best),
        *cpu_remarks(raw.probes.cpu_priority, best),
        *repeated({p.probe: disturbances(p, by_probe[p.probe], bench, raw.probes.cpu_priority) for p in disturbed}),
    )
    # Those of the windows: a closed loop's first answers are cut short in its lead-in.
    good = [row for p in points for row in _scheduled_in(by_probe[p.probe], window(p)) if row.outcome == "success"]
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
        warnings=tuple(note.text for note in warnings),
        warning_codes=tuple(note.code for note in warnings),
        peak=_per_hour([peak] if peak else [], by_probe, subject.accelerators_used),
        at_slo=_per_hour(repeats_of(best, open_loop), by_probe, subject.accelerators_used) if best else None,
        slo_probe=best.probe if best else None,
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
        disturbed=tuple(disturbed),
        cpu_priority=raw.probes.cpu_priority,
        certificate=_claim(raw.certificate, points),
        uncertified=None if raw.certificate else raw.probes.uncertified,
        inputs=inputs,
    )


def _by_probe(raw: Raw) -> dict[int, list[RequestRow]]:
    found: dict[int, list[RequestRow]] = {p.probe: [] for p in raw.probes.probes}
    for row in raw.requests:
        if row.probe in found:
            found[row.probe].append(row)
    return found


def _scheduled_in(rows: Sequence[RequestRow], inside: tuple[float, float]) -> list[RequestRow]:
    return [row for row in rows if inside[0] <= row.scheduled_s < inside[1]]


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


def _energy(point: LoadPoint | None) -> float | None:
    if point is None or point.energy_j is None or not point.output_tps:
        return None
    return point.energy_j / (point.output_tps * point.window_s)


def _mean(values: Sequence[int]) -> float:
    return float(np.mean(values)) if values else 0.0
