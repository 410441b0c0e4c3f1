"""What meets the latency objective: a request, a number of requests, a percentile. Decided here and nowhere else. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tokenhour.bench.statistics.metrics import Latencies, percentile_with_failures, samples_needed, tpot
from tokenhour.contracts.config.bench import SloSpec
from tokenhour.contracts.records.request import RequestRow


def misses(row: RequestRow, slo: SloSpec) -> tuple[bool, bool, bool]:
    """Tell for TTFT, TPOT and e2e whether a request missed the bound; False where there is none.

    A request that did not succeed misses every bound. One whose TPOT is undefined does not miss that one.
    """
    if row.outcome != "success" or row.first_token_s is None or row.last_token_s is None:
        return slo.ttft_s is not None, slo.tpot_s is not None, slo.e2e_s is not None
    ttft, spent, e2e = row.first_token_s - row.scheduled_s, tpot(row), row.last_token_s - row.scheduled_s
    return _above(ttft, slo.ttft_s), _above(spent, slo.tpot_s), _above(e2e, slo.e2e_s)


def _above(value_s: float | None, bound_s: float | None) -> bool:
    return value_s is not None and bound_s is not None and value_s > bound_s


def meets(row: RequestRow, slo: SloSpec) -> bool:
    """Tell whether one request met every bound; a failed one never does."""
    return row.outcome == "success" and not any(misses(row, slo))


def may_miss(planned: int, percentile: float) -> int:
    """Return how many of `planned` requests may miss a bound while its percentile (nearest rank) still meets it."""
    return planned - max(1, math.ceil(percentile / 100 * planned))


def worst_misses(rows: Iterable[RequestRow], slo: SloSpec) -> int:
    """Count the finished requests that missed the bound that most of them missed; failures miss all bounds."""
    missed = [misses(row, slo) for row in rows if row.outcome != "cancelled"]
    return max(map(sum, zip(*missed, strict=True)), default=0)


def slo_reasons(found: Latencies, slo: SloSpec) -> tuple[bool | None, tuple[str, ...]]:
    """Judge the objective: (met, reasons). None when the samples do not suffice for the percentile."""
    bounds = (("TTFT", found.ttft, slo.ttft_s), ("TPOT", found.tpot, slo.tpot_s), ("e2e", found.e2e, slo.e2e_s))
    reasons, few = [], False
    for name, values, bound in bounds:
        if bound is None:
            continue
        total = len(values) + found.failures
        value = percentile_with_failures(values, found.failures, slo.percentile)
        if _above(value, bound):
            reasons.append(f"p{slo.percentile:g} {name} {value:.3g} s is above {bound:g} s")
        if total < samples_needed(slo.percentile):
            few = True
            reasons.append(f"{total} samples of {name}: p{slo.percentile:g} wants {samples_needed(slo.percentile)}")
    return (None if few else not reasons), tuple(reasons)
