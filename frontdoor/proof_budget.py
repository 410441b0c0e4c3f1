"""How the minutes of a GPU proof are shared out: a pure function of the budget and of what has to be done."""

from __future__ import annotations

import math
from dataclasses import dataclass

from contracts.bench_spec import SearchSpec
from contracts.errors import InputError
from contracts.units import human_seconds

DRAIN_S = 5.0  # the last requests of a probe end; counters and files are read
MOST_PROBES, LEAST_PROBES = 5, 2
SATURATION_SHARE = 0.3
SHORTEST_S, GOOD_S, LONGEST_S = 5.0, 12.0, 45.0  # of a probe's window; a further probe is worth having above the second


@dataclass(frozen=True, slots=True)
class Work:
    """What has to be done, with what each thing is expected to take (seconds)."""

    schemes: int
    mixes: int
    start_s: float
    """From a server's launch to its first answer, and its stop."""
    before_s: float
    """Environment, preflight, the machine's rates, the generator's calibration."""
    after_s: float
    """Rooflines, verdicts, reports, comparison."""
    warmup_s: float
    """Lead-in and lead-out of each probe."""


@dataclass(frozen=True, slots=True)
class Allotment:
    """The search settings of every measurement, and what the whole is expected to take at most."""

    search: SearchSpec
    measurement_s: float
    scheme_s: float
    """A server's start, all of its measurements and its stop."""
    total_s: float


def cost_s(search: SearchSpec) -> float:
    """Return what a search takes at most: a saturated probe and all open-loop ones at their longest, each with its edges."""
    edges = 2 * search.warmup_s + DRAIN_S
    return search.saturation_s + edges + search.max_probes * (search.max_probe_s + edges)


def share_out(budget_s: float, work: Work) -> Allotment:
    """Give every (scheme, mix) the same time: a third for saturation, the rest for as many probes as have a window left.

    Raises InputError when not even the shortest measurement fits, with the budget that would do.
    """
    cells = work.schemes * work.mixes
    fixed = work.before_s + work.after_s + work.schemes * work.start_s
    each = (budget_s - fixed) / cells
    edges = 2 * work.warmup_s + DRAIN_S
    for probes, wanted_s in (*((n, GOOD_S) for n in range(MOST_PROBES, LEAST_PROBES, -1)), (LEAST_PROBES, SHORTEST_S)):
        left = each - (probes + 1) * edges
        saturation = min(LONGEST_S, SATURATION_SHARE * left)
        window = min(LONGEST_S, (left - saturation) / probes)
        if window < wanted_s or saturation < SHORTEST_S:
            continue
        search = SearchSpec(
            saturation_s=round(saturation - 0.05, 1),
            probe_s=SHORTEST_S,
            warmup_s=work.warmup_s,
            max_probes=probes,
            max_probe_s=round(window - 0.05, 1),
            precision=0.1,
        )
        spent = cost_s(search)
        scheme = work.start_s + work.mixes * spent
        return Allotment(search, spent, scheme, work.before_s + work.schemes * scheme + work.after_s)
    # The saturated probe gets its share of the windows: the shortest one decides.
    shortest = (LEAST_PROBES + 1) * edges + (SHORTEST_S + 0.1) / SATURATION_SHARE
    needed = fixed + cells * shortest
    raise InputError(
        f"{human_seconds(budget_s)} do not suffice for {work.schemes} precisions and {work.mixes} mixes",
        where="--minutes",
        remedy=f"give it {math.ceil(needed / 60)} minutes",
    )


def fits(needed_s: float, spent_s: float, budget_s: float, after_s: float) -> bool:
    """Tell whether a step may still begin: it ends within the budget, with the time for the verdicts kept."""
    return spent_s + needed_s + after_s <= budget_s
