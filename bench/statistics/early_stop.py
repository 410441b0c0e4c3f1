"""When the outcome of a probe is certain before its end. Pure: decided by finished requests alone, never by a guess."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence

from tokenhour.bench.statistics import metrics
from tokenhour.contracts.config.bench import SloSpec
from tokenhour.contracts.records.request import RequestRow

_HOPELESS_AFTER = 20  # requests
_HOPELESS_SHARE = 0.5
_SILENT_AFTER = 20  # requests in a row
_UNANSWERED = frozenset({"connection", "timeout", "truncated"})


def may_miss(planned: int, percentile: float) -> int:
    """Return how many of `planned` requests may miss a bound while its percentile (nearest rank) still meets it."""
    return planned - max(1, math.ceil(percentile / 100 * planned))


def worst_misses(rows: Iterable[RequestRow], slo: SloSpec) -> int:
    """Count the finished requests that missed the bound that most of them missed; failures miss all bounds."""
    counts = [0, 0, 0]
    for row in rows:
        if row.outcome == "cancelled":
            continue
        for k, missed in enumerate(misses(row, slo)):
            counts[k] += missed
    return max(counts)


def misses(row: RequestRow, slo: SloSpec) -> tuple[bool, bool, bool]:
    """Tell for TTFT, TPOT and e2e whether a request missed the bound; False where there is none."""
    if row.outcome != "success" or row.first_token_s is None or row.last_token_s is None:
        return slo.ttft_s is not None, slo.tpot_s is not None, slo.e2e_s is not None
    spent = metrics.tpot(row)
    return (
        slo.ttft_s is not None and row.first_token_s - row.scheduled_s > slo.ttft_s,
        slo.tpot_s is not None and spent is not None and spent > slo.tpot_s,
        slo.e2e_s is not None and row.last_token_s - row.scheduled_s > slo.e2e_s,
    )


def certain_to_miss(rows: Iterable[RequestRow], planned: int, slo: SloSpec) -> bool:
    """Tell whether so many finished requests missed a bound that whatever the others do the percentile misses it.

    `rows` are those scheduled inside the window. TPOT is undefined for answers of one chunk, which leave its percentile:
    with such answers fewer requests count, so that the certainty only grows.
    """
    return worst_misses(rows, slo) > may_miss(planned, slo.percentile)


def hopeless(rows: Iterable[RequestRow]) -> bool:
    """Tell whether the server refuses most requests, so that nothing can be learnt from more of them."""
    outcomes = [row.outcome == "success" for row in rows if row.outcome != "cancelled"]
    return len(outcomes) >= _HOPELESS_AFTER and sum(outcomes) < _HOPELESS_SHARE * len(outcomes)


def silent(rows: Sequence[RequestRow], now_s: float, for_s: float) -> bool:
    """Tell whether to doubt that the server is still there: all that ended lately broke off or got no answer.

    Lately: within the last `for_s`, or the last 20 requests. Nothing that ended is no reason: a rate may be low and answers
    long. Nor is this the verdict, since a slow server's requests run into their timeouts too: one has to ask it.
    """
    ended = [row for row in rows if row.outcome != "cancelled"]
    recent = [row for row in ended if row.finished_s >= now_s - for_s]
    last = heapq.nlargest(_SILENT_AFTER, ended, key=lambda row: row.finished_s)
    return any(
        len(some) >= least and all(row.outcome in _UNANSWERED for row in some)
        for some, least in ((recent, 1), (last, _SILENT_AFTER))
    )


def answered(rows: Iterable[RequestRow], since_s: float) -> bool:
    """Tell whether a request that ended since then had an answer, be it a refusal."""
    return any(row.finished_s >= since_s and row.outcome not in (*_UNANSWERED, "cancelled") for row in rows)
