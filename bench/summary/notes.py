"""What a summary says beside its verdict: what was not measured, not checked, or is odd about the points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tokenhour.bench.statistics.metrics import growth_spread
from tokenhour.bench.summary.capacity import passed
from tokenhour.bench.summary.run_facts import Subject
from tokenhour.bench.telemetry.series import Telemetry
from tokenhour.contracts.records.probe import CpuPriority, Probes
from tokenhour.contracts.records.summary import LoadPoint, Reason

UNSEEN_GROWTH = 0.10  # of the arrivals: an overload to speak of
UNUSED_PREFIXES = 0.10  # of the prompt tokens: a difference to speak of


def unmeasured_generators(probes: Probes, telemetry: Telemetry, bearing_points: Sequence[LoadPoint]) -> list[str]:
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


def unchecked(subject: Subject, probes: Probes, bearing_points: Sequence[LoadPoint]) -> list[str]:
    """Say which rules of validity could not be applied to any of the probes that bear the result."""
    said: list[str] = []
    if not bearing_points:
        return said
    if subject.engine_counters and all(p.token_disagreement is None for p in bearing_points):
        why = "a request failed, the probe was stopped early, or the counters were not readable"
        said.append(f"no probe that bears the result could be held against the engine's token counters: {why}")
    # A counter that stands still is a cache that is off: that is known, though there is no rate.
    counted = any(p.after.prefix_queries is not None for p in probes.probes)
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


def _short_window(best: LoadPoint | None) -> list[str]:
    """Say where the window is too short beside the answers to tell a growing queue from chance."""
    if best is None or not best.e2e.mean_s or not best.requests:
        return []
    stay_s = best.e2e.mean_s
    unseen = 2 * growth_spread(best.requests / best.window_s * stay_s, stay_s, best.window_s) / best.requests
    if unseen <= UNSEEN_GROWTH:
        return []
    said = f"the window at the SLO is {best.window_s / stay_s:.1f} answers long: that the queue did not grow is sure to"
    return [f"{said} {unseen:.0%} of the arrivals; a longer search.probe_s says it better"]


def odd_points(points: Sequence[LoadPoint], best: LoadPoint | None) -> list[str]:
    """Say what is odd about the points, or about the best of them."""
    said = [*_unused_prefixes(points), *_short_window(best)]
    rates = [p for p in points if p.arrivals != "closed"]
    if best is None and rates:
        said.append("no tested rate met the SLO: there is no capacity at the SLO, only a peak")
    elif rates and all(passed(p) for p in rates):
        said.append("every tested rate met the SLO: the capacity may be higher")
    if any(p.energy_j is None for p in points):
        said.append("energy was not measured: no counter of what serves could be read throughout")
    return said


def cpu_remarks(priority: CpuPriority | None, best: LoadPoint | None) -> list[str]:
    """Say how generator and engine shared the CPU, where that matters."""
    said = []
    if priority is not None and priority.action == "neither":
        said.append(
            f"the load generator shared cores with the engine and could not be put before it ({priority.why}): "
            "`tokenhour doctor` says what this machine allows"
        )
    elif priority is not None and priority.action == "engine lowered":
        said.append(
            "the load generator shared cores with the engine and could not be raised, so the engine's session was lowered "
            f"while it was measured ({priority.why})"
        )
    if best and best.generator_cpu_share is not None and best.host_cpu_share is not None and best.host_cpu_share > 0.9:
        took = f"{best.generator_cpu_share:.0%} of one of them"
        said.append(f"the load generator ran on the same cores as the engine and took {took}")
    return said


def repeated(disturbed: Mapping[int, Sequence[Reason]]) -> list[str]:
    """Say which probes were measured again, and why."""
    return [
        f"probe {probe} was disturbed and measured again: {'; '.join(reason.found() for reason in why)}"
        for probe, why in disturbed.items()
    ]
