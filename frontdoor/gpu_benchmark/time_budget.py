"""How the minutes of a GPU proof are shared out: a pure function of the budget and of what has to be done.

The shares are a plan; deadlines hold it. Every step ends, with its stop, before what comes after it needs the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tokenhour.contracts.config.bench import SearchSpec
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.units import human_seconds

# The last requests of a probe end; counters and files are read. 1 to 3 s and 8 s on an H100 with an 8B model.
DRAIN_S, SATURATED_DRAIN_S = 3.0, 8.0
# From a deadline's SIGTERM until all is gone, if need be by SIGKILL: an engine with its tree, a stage that serves nothing.
STOP_S, PLAIN_STOP_S = 10.0, 2.0
# No start may eat more than a third of the time: a precision that hangs leaves some for the others.
START_SHARE, LEAST_START_S, LONGEST_START_S = 1 / 3, 180.0, 600.0
LATEST = 2.0  # times what measuring is expected to take at most: then it hangs
MOST_PROBES, LEAST_PROBES = 5, 2
SATURATION_SHARE = 0.3
ENOUGH_S = 10.0  # of requests that come by the dozen a second
SHORTEST_S, GOOD_S, LONGEST_S = 5.0, 9.0, 45.0  # of a probe's window; a further probe is worth having above the second


@dataclass(frozen=True, slots=True)
class Work:
    """What has to be done, with what each thing is expected to take (seconds)."""

    schemes: int
    mixes: int
    start_s: float
    """From a server's launch to its first answer, and its stop: a guess until one has been measured."""
    before_s: float
    """Environment, preflight with the engine's parser, the machine's rates, the generator's calibration."""
    after_s: float
    """Rooflines, verdicts, reports, comparison."""
    warmup_s: float
    """Lead-in and lead-out of each probe."""
    saturation_warmup_s: float
    """Lead-in of the saturated one."""


@dataclass(frozen=True, slots=True)
class Allotment:
    """The search settings of every measurement, and what the whole is expected to take at most."""

    search: SearchSpec
    measurement_s: float
    scheme_s: float
    """A server's start, all of its measurements and its stop."""
    total_s: float
    ready_timeout_s: float
    """How long a server may take to be ready."""


def cost_s(search: SearchSpec) -> float:
    """Return what a search takes at most: a saturated probe and all open-loop ones at their longest, each with its edges."""
    lead_s = search.warmup_s if search.saturation_warmup_s is None else search.saturation_warmup_s
    saturated = search.saturation_s + _around_saturated_s(lead_s, search.warmup_s)
    return saturated + search.max_probes * (search.max_probe_s + _around_s(search.warmup_s))


def _around_s(warmup_s: float) -> float:
    return 2 * warmup_s + DRAIN_S


def _around_saturated_s(lead_s: float, warmup_s: float) -> float:
    return lead_s + warmup_s + SATURATED_DRAIN_S


def share_out(budget_s: float, work: Work) -> Allotment:
    """Give every (scheme, mix) the same time: a third for saturation, the rest for as many probes as have a window left.

    Raises InputError when not even the shortest measurement fits, with the budget that would do.
    """
    cells = work.schemes * work.mixes
    fixed = work.before_s + work.after_s + STOP_S + work.schemes * work.start_s
    each = (budget_s - fixed) / cells
    edges, saturated = _around_s(work.warmup_s), _around_saturated_s(work.saturation_warmup_s, work.warmup_s)
    for probes, wanted_s in (*((n, GOOD_S) for n in range(MOST_PROBES, LEAST_PROBES, -1)), (LEAST_PROBES, SHORTEST_S)):
        left = each - saturated - probes * edges
        saturation = min(LONGEST_S, SATURATION_SHARE * left)
        window = min(LONGEST_S, (left - saturation) / probes)
        if window < wanted_s or saturation < SHORTEST_S:
            continue
        search = SearchSpec(
            saturation_s=round(saturation - 0.05, 1),
            # Long enough where there is time for it; the rest is left for measuring once more what was disturbed.
            probe_s=round(min(window, ENOUGH_S) - 0.05, 1),
            warmup_s=work.warmup_s,
            saturation_warmup_s=work.saturation_warmup_s,
            max_probes=probes,
            max_probe_s=round(window - 0.05, 1),
            precision=0.1,
        )
        spent = cost_s(search)
        scheme = work.start_s + work.mixes * spent
        total = work.before_s + work.schemes * scheme + STOP_S + work.after_s
        ready_limit_s = min(LONGEST_START_S, max(LEAST_START_S, round(START_SHARE * budget_s)))
        return Allotment(search, spent, scheme, total, ready_limit_s)
    # The saturated probe gets its share of the windows: the shortest one decides.
    shortest = saturated + LEAST_PROBES * edges + (SHORTEST_S + 0.1) / SATURATION_SHARE
    needed = fixed + cells * shortest
    raise InputError(
        f"{human_seconds(budget_s)} do not suffice for {work.schemes} precisions and {work.mixes} mixes",
        where="--minutes",
        remedy=f"give it {math.ceil(needed / 60)} minutes",
    )


def start_s(guess_s: float, seen_s: Sequence[float]) -> float:
    """Return what a start is expected to take: the latest that was seen on this machine and its stop, else the guess.

    The first one may read from a cold disk: 76 s on an H100 where the later ones took 25.
    """
    return seen_s[-1] + STOP_S if seen_s else guess_s


def left_s(spent_s: float, budget_s: float, after_s: float, stop_s: float = STOP_S) -> float:
    """Return how long a step may run now: its stop and what comes after it are kept out of its time."""
    return budget_s - spent_s - stop_s - after_s


def fits(needed_s: float, spent_s: float, budget_s: float, after_s: float) -> bool:
    """Tell whether a step may still begin: it ends within the budget, with the time for the verdicts kept."""
    return needed_s <= left_s(spent_s, budget_s, after_s)


def deadline_s(ready_s: float, measuring_s: float, left: float) -> float:
    """Return after how long a precision's step is ended: when time is up, or when it must be hanging.

    `ready_s` is what its start may take, `measuring_s` what all of its searches take at most.
    """
    return min(left, ready_s + LATEST * measuring_s)
