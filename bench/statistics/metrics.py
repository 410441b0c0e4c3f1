"""From request rows to the figures of one probe. Pure NumPy; definitions as in docs/method.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.request import RequestRow
from tokenhour.contracts.records.summary import Percentiles

Floats = NDArray[np.float64]
BATCHES = 10
# Confidence with which enough samples lie beyond the percentile that it can be stated (MLPerf's argument, at 99 %).
_TAIL_CONFIDENCE = 0.99
_MOMENTS = 300  # of a window, at which its backlog is counted
_GROWTH = 1.5 * np.repeat([-1.0, 0.0, 1.0], _MOMENTS // 3) / (_MOMENTS // 3)
"""Weights of the counts: the last third's mean less the first's, as the growth over the whole window."""


def samples_needed(percentile: float) -> int:
    """Return how many samples a percentile wants: 64 for p90, 662 for p99.

    So many that with 99 % confidence at least 2 (p99) or 1 (p90: 6.4 expected) samples lie beyond it; below, the figure
    is "not estimable". p90 and p99 are the stated minima; others follow n * (1 - p) >= 6.4.
    """
    stated = {90.0: 64, 99.0: 662}
    return stated.get(percentile, math.ceil(6.4 / (1 - percentile / 100)))


def percentile_with_failures(values: Floats, failures: int, percentile: float) -> float | None:
    """Return the percentile (nearest rank) where each failure counts as +infinity; None without any sample."""
    total = len(values) + failures
    if total == 0:
        return None
    rank = max(1, math.ceil(percentile / 100 * total))
    return math.inf if rank > len(values) else float(np.sort(values)[rank - 1])


def percentiles(values: Floats, failures: int, at: float) -> Percentiles:
    """Summarise a latency in seconds; `at` is the SLO's percentile."""
    total = len(values) + failures

    def estimate(percentile: float) -> float | None:
        found = percentile_with_failures(values, failures, percentile)
        enough = total >= samples_needed(percentile)
        return found if found is not None and enough and math.isfinite(found) else None

    found_at = percentile_with_failures(values, failures, at)
    return Percentiles(
        samples=total,
        mean_s=float(values.mean()) if len(values) else None,
        p50_s=estimate(50.0),
        p90_s=estimate(90.0),
        p99_s=estimate(99.0),
        at_slo_s=estimate(at),
        unbounded=found_at is not None and math.isinf(found_at),
    )


@dataclass(frozen=True, slots=True)
class Latencies:
    """Latencies of some requests, in seconds; arrays hold successes only."""

    ttft: Floats
    """First token from the scheduled arrival."""
    ttft_from_sent: Floats
    e2e: Floats
    """Last token from the scheduled arrival."""
    e2e_from_sent: Floats
    tpot: Floats
    """(last - first) / (tokens - tokens of the first chunk); undefined for one chunk, left out and counted."""
    interchunk: Floats
    lag: Floats
    """Scheduled to sent, of every request that was sent; to taken up, where a connection had to be opened for it."""
    failures: int
    single_chunk: int
    """Successes of which TPOT is undefined."""


def taken_up_s(row: RequestRow) -> float | None:
    """Return when the generator turned to a request: when it began to connect, or sent on a connection that stood."""
    return row.sent_s if row.taken_s is None else row.taken_s


def latencies(rows: Sequence[RequestRow]) -> Latencies:
    """Compute the latencies of `rows`."""
    good = [r for r in rows if r.outcome == "success" and r.chunks]
    gaps = [np.diff(np.asarray(r.chunk_offsets_s)) for r in good]
    spent = [t for r in good if (t := tpot(r)) is not None]
    return Latencies(
        ttft=_array(r.first_token_s - r.scheduled_s for r in good if r.first_token_s is not None),
        ttft_from_sent=_array(
            r.first_token_s - r.sent_s for r in good if r.first_token_s is not None and r.sent_s is not None
        ),
        e2e=_array(r.last_token_s - r.scheduled_s for r in good if r.last_token_s is not None),
        e2e_from_sent=_array(r.last_token_s - r.sent_s for r in good if r.last_token_s is not None and r.sent_s is not None),
        tpot=_array(spent),
        interchunk=np.concatenate(gaps) if gaps else np.empty(0),
        lag=_array(t - r.scheduled_s for r in rows if (t := taken_up_s(r)) is not None),
        failures=sum(1 for r in rows if r.outcome != "cancelled") - len(good),
        single_chunk=len(good) - len(spent),
    )


def _array(values: object) -> Floats:
    return np.fromiter(values, dtype=np.float64)  # type: ignore[call-overload,no-any-return]


def tpot(row: RequestRow) -> float | None:
    """Return the time per output token after the first chunk, in seconds; None where it is undefined."""
    if row.first_token_s is None or row.last_token_s is None or row.completion_tokens is None:
        return None
    after = row.completion_tokens - (row.first_chunk_tokens or 0)
    return (row.last_token_s - row.first_token_s) / after if row.chunks > 1 and after > 0 else None


def emitted(rows: Sequence[RequestRow], start_s: float, end_s: float) -> tuple[Floats, Floats]:
    """Return (times, tokens) of the token-bearing chunks inside [start, end), whatever became of their request."""
    sent = [row for row in rows if row.sent_s is not None and len(row.chunk_offsets_s)]
    if not sent:
        return np.empty(0), np.empty(0)
    times = np.concatenate([np.asarray(row.chunk_offsets_s) + row.sent_s for row in sent])
    tokens = np.concatenate([np.asarray(row.chunk_tokens, dtype=np.float64) for row in sent])
    inside = (times >= start_s) & (times < end_s)
    return times[inside], tokens[inside]


def batch_rates(times: Floats, amounts: Floats, start_s: float, end_s: float) -> Floats:
    """Return the rate (amount/s) in each of 10 equal batches of [start, end)."""
    edges = np.linspace(start_s, end_s, BATCHES + 1)
    sums, _ = np.histogram(times, bins=edges, weights=amounts)
    rates: Floats = sums / (edges[1] - edges[0])
    return rates


def interval_of(rates: Floats) -> Interval:
    """Return the mean of batch rates with its 95 % interval.

    Batches are nearly independent when one is longer than a request; the interval is Student's t on their means (Law &
    Kelton, Simulation Modeling and Analysis, section 9.5.3), widened where neighbours are alike: by
    sqrt((1 + r) / (1 - r)) with r the lag-1 correlation, where it is positive.
    """
    from scipy import stats

    count = len(rates)
    spread = float(rates.std(ddof=1))
    half = float(stats.t.ppf(0.975, count - 1)) * spread / math.sqrt(count)
    if spread > 0:
        centred = rates - rates.mean()
        alike = float((centred[1:] * centred[:-1]).sum() / (centred**2).sum())
        alike = min(max(alike, 0.0), 0.8)
        half *= math.sqrt((1 + alike) / (1 - alike))
    value = float(rates.mean())
    return Interval(value=value, low=max(0.0, value - half), high=value + half)


def rate_interval(times: Floats, amounts: Floats, start_s: float, end_s: float) -> Interval:
    """Return a rate (amount/s over [start, end)) with its 95 % interval by batch means."""
    return interval_of(batch_rates(times, amounts, start_s, end_s))


def in_flight(rows: Sequence[RequestRow], at_s: NDArray[np.floating]) -> Floats:
    """Count the requests that had arrived and not ended at each of the times."""
    arrived = np.sort([r.scheduled_s for r in rows])
    ended = np.sort([r.last_token_s or r.finished_s for r in rows])
    return (np.searchsorted(arrived, at_s, "right") - np.searchsorted(ended, at_s, "right")).astype(np.float64)


def is_stable(rows: Sequence[RequestRow], start_s: float, end_s: float) -> bool:
    """Tell whether completions kept up with arrivals inside the window.

    Completions are arrivals less the growth of the backlog. The growth is taken from the mean backlog of the first and
    of the last third of the window (their centres lie two thirds of it apart), since counts at two instants are mostly
    chance. The engine falls behind when it leaves more than 5 % of the arrivals undone, more than twice a Poisson queue's
    spread, and more than twice the spread that the growth itself has by chance (`growth_spread`).
    """
    at_s = np.linspace(start_s, end_s, _MOMENTS)
    backlog = in_flight(rows, at_s)
    growth, first = float(_GROWTH @ backlog), max(1.0, float(backlog[: _MOMENTS // 3].mean()))
    arrived = sum(1 for r in rows if start_s <= r.scheduled_s < end_s)
    stay_s = first * (end_s - start_s) / max(1, arrived)  # Little's law
    allowed = max(0.05 * arrived, 2 * math.sqrt(first), 2 * growth_spread(first, stay_s, end_s - start_s))
    return growth <= allowed


def growth_spread(backlog: float, stay_s: float, window_s: float) -> float:
    """Return the standard deviation of the growth where nothing grows: Poisson arrivals that each stay for `stay_s`.

    Counts at times closer than `stay_s` share requests: their covariance is backlog * (1 - distance / stay_s) (the M/D/inf
    queue). In a window of many stays the spread is next to nothing; in one of three it is 1.7 times the root of the backlog.
    """
    at_s = np.linspace(0, window_s, _MOMENTS)
    alike = np.clip(1 - np.abs(at_s[:, None] - at_s) / stay_s, 0, None)
    return math.sqrt(backlog * max(0.0, float(_GROWTH @ alike @ _GROWTH)))
