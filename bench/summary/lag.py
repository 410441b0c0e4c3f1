"""How late the load generator may be, what held it up where it was later, and what to do about that. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tokenhour.contracts.config.bench import SloSpec
from tokenhour.contracts.records.probe import CpuPriority
from tokenhour.contracts.records.summary import LagCause, LoadPoint

LAG_SHARE = 0.10  # of the tighter of the bounds that count from the scheduled arrival
_TELLING_S = 0.1  # of a second without a CPU: enough to hold anyone up
_TELLING_SHARE = 0.5  # of a lag that is shorter


def lag_limit_s(slo: SloSpec) -> float:
    """Return how late the generator may be (p99, s): being late adds to TTFT and e2e, so the tighter of those two counts.

    TPOT has no part in it, and stands in only where it is the one bound that there is.
    """
    from_arrival = [b for b in (slo.ttft_s, slo.e2e_s) if b is not None]
    return LAG_SHARE * min(from_arrival or [slo.tpot_s or 0.0])


def is_late(point: LoadPoint, slo: SloSpec) -> bool:
    """Tell whether the generator was later in a probe than its objective allows."""
    return point.lag_p99_s is not None and point.lag_p99_s > lag_limit_s(slo)


@dataclass(frozen=True, slots=True)
class LagFinding:
    """What held the generator up."""

    cause: LagCause
    explanation: str
    remedy: str


def why_late(point: LoadPoint, priority: CpuPriority | None) -> LagFinding:
    """Name what held the generator up in a probe in which it was late: the larger of what could, where either could."""
    lag_s, waited_s, stolen_s = point.lag_p99_s or 0.0, point.generator_wait_s or 0.0, point.steal_s or 0.0
    if point.generator_wait_s is None or max(waited_s, stolen_s) < min(_TELLING_S, _TELLING_SHARE * lag_s):
        known = point.generator_wait_s is not None
        said = "it neither waited for a CPU nor did a hypervisor keep one" if known else "what it waited for was not sampled"
        return LagFinding("unexplained", said, "stop other programs, check for swapping, and measure again")
    if stolen_s > waited_s:
        said = f"the hypervisor took {stolen_s:.1f} s of each CPU"
        return LagFinding("hypervisor", said, "measure on dedicated cores, or when the host is less busy")
    beside = "" if priority is None or priority.action == "not shared" else " beside the engine"
    said = f"the generator waited {waited_s:.1f} s for a CPU{beside}"
    return LagFinding("waited for a CPU", said, _room(priority))


def _room(priority: CpuPriority | None) -> str:
    """Say how the generator gets its core."""
    if priority is not None and priority.action == "neither":
        return f"allow it to come first ({priority.why}; see `tokenhour doctor`), or load from another machine (--url)"
    return "stop other programs, keep the engine off one core (taskset), or load from another machine (--url)"
