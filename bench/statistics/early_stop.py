"""When the outcome of a probe is certain before its end. Pure: decided by finished requests alone, never by a guess."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from tokenhour.bench.statistics.slo import may_miss, worst_misses
from tokenhour.contracts.config.bench import SloSpec
from tokenhour.contracts.records.request import RequestRow

_HOPELESS_AFTER = 20  # requests
_HOPELESS_SHARE = 0.5
_SILENT_AFTER = 20  # requests in a row
_UNANSWERED = frozenset({"connection", "timeout", "truncated"})


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
