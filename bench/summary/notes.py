"""What a summary says beside its verdict: what was not measured, not checked, or is odd about the points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tokenhour.bench.statistics.metrics import growth_spread
from tokenhour.bench.summary.run_facts import Subject
from tokenhour.bench.telemetry.series import Telemetry
from tokenhour.contracts.records.probe import CpuPriority, Probes
from tokenhour.contracts.records.summary import LoadPoint, Reason, WarningCode
from tokenhour.contracts.standalone.generator_certificate import Certificate

UNSEEN_GROWTH = 0.10  # of the arrivals: an overload to speak of
UNUSED_PREFIXES = 0.10  # of the prompt tokens: a difference to speak of


@dataclass(frozen=True, slots=True)
class SummaryNote:
    """A warning: what it is about, for programs, and what it says, for people."""

    code: WarningCode
    text: str


def uncertified(probes: Probes, certificate: Certificate | None) -> Iterator[SummaryNote]:
    """Say why the load generator has no certificate."""
    if probes.uncertified and certificate is None:
        yield SummaryNote("uncertified", probes.uncertified)


def unmeasured_generators(probes: Probes, telemetry: Telemetry, bearing: Sequence[LoadPoint]) -> Iterator[SummaryNote]:
    """Say how many load processes nobody knows the CPU use of, or in which probes: saturation would not be noticed there."""
    count = max((p.workers for p in probes.probes), default=1)
    # Where there are several, the master is a generator too, and has the empty index.
    known = sum(kind == "generator" and metric == "cpu_s_total" and index != "" for kind, index, metric in telemetry.series)
    if count > 1 and known < count:
        said = f"the CPU use of {count - known} of {count} load workers was not measured: their"
    elif blind := ", ".join(str(p.probe) for p in bearing if p.generator_cpu_share is None):
        said = f"the CPU use of the load generator was not measured in probe {blind}: its"
    else:
        return
    yield SummaryNote("load workers not sampled", f"{said} saturation would not be noticed")


def unchecked(subject: Subject, probes: Probes, bearing: Sequence[LoadPoint]) -> Iterator[SummaryNote]:
    """Say which rules of validity could not be applied to any of the probes that bear the result."""
    if not bearing:
        return
    if subject.engine_counters and all(p.token_disagreement is None for p in bearing):
        why = "a request failed, the probe was stopped early, or the counters were not readable"
        said = f"no probe that bears the result could be held against the engine's token counters: {why}"
        yield SummaryNote("tokens not checked", said)
    # A counter that stands still is a cache that is off: that is known, though there is no rate.
    counted = any(p.after.prefix_queries is not None for p in probes.probes)
    if not counted and all(p.prefix_hit_rate is None for p in bearing):
        said = "neither engine counters nor usage say what the prefix cache found: its hit rate was not checked"
        yield SummaryNote("prefix cache not checked", said)


def _unused_prefixes(points: Sequence[LoadPoint]) -> Iterator[SummaryNote]:
    """Say where the prefix cache found much less than the workload repeats."""
    known = [p for p in points if p.expected_prefix_hit_rate and p.prefix_hit_rate is not None]
    gaps = [(p.expected_prefix_hit_rate or 0.0, p.prefix_hit_rate or 0.0) for p in known]
    expected, found = max(gaps, key=lambda pair: pair[0] - pair[1], default=(0.0, 0.0))
    if expected - found > UNUSED_PREFIXES:
        said = f"the workload repeats {expected:.0%} of its prompt tokens and the prefix cache found {found:.0%}"
        yield SummaryNote("prefix cache missed", f"{said}: it is off, too small, or its blocks are long")


def _short_window(best: LoadPoint | None) -> Iterator[SummaryNote]:
    """Say where the window is too short beside the answers to tell a growing queue from chance."""
    if best is None or not best.e2e.mean_s or not best.requests:
        return
    stay_s = best.e2e.mean_s
    unseen = 2 * growth_spread(best.requests / best.window_s * stay_s, stay_s, best.window_s) / best.requests
    if unseen > UNSEEN_GROWTH:
        said = f"the window at the SLO is {best.window_s / stay_s:.1f} answers long: that the queue did not grow is sure to"
        yield SummaryNote("short SLO window", f"{said} {unseen:.0%} of the arrivals; a longer search.probe_s says it better")


def odd_points(points: Sequence[LoadPoint], best: LoadPoint | None) -> Iterator[SummaryNote]:
    """Say what is odd about the points, or about the best of them."""
    yield from _unused_prefixes(points)
    yield from _short_window(best)
    rates = [p for p in points if p.arrivals != "closed"]
    if best is None and rates:
        yield SummaryNote("no rate met the SLO", "no tested rate met the SLO: there is no capacity at the SLO, only a peak")
    elif rates and all(p.passed for p in rates):
        yield SummaryNote("every rate met the SLO", "every tested rate met the SLO: the capacity may be higher")
    if any(p.energy_j is None for p in points):
        said = "energy was not measured: no counter of what serves could be read throughout"
        yield SummaryNote("energy not measured", said)


def cpu_remarks(priority: CpuPriority | None, best: LoadPoint | None) -> Iterator[SummaryNote]:
    """Say how generator and engine shared the CPU, where that matters."""
    if priority is not None and priority.action == "neither":
        yield SummaryNote(
            "shared CPU",
            f"the load generator shared cores with the engine and could not be put before it ({priority.why}): "
            "`tokenhour doctor` says what this machine allows",
        )
    elif priority is not None and priority.action == "engine lowered":
        yield SummaryNote(
            "shared CPU",
            "the load generator shared cores with the engine and could not be raised, so the engine's session was lowered "
            f"while it was measured ({priority.why})",
        )
    if best and best.generator_cpu_share is not None and best.host_cpu_share is not None and best.host_cpu_share > 0.9:
        took = f"{best.generator_cpu_share:.0%} of one of them"
        yield SummaryNote("shared CPU", f"the load generator ran on the same cores as the engine and took {took}")


def repeated(disturbed: Mapping[int, Sequence[Reason]]) -> Iterator[SummaryNote]:
    """Say which probes were measured again, and why."""
    for probe, why in disturbed.items():
        said = "; ".join(reason.found() for reason in why)
        yield SummaryNote("measured again", f"probe {probe} was disturbed and measured again: {said}")
