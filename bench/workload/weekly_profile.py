"""From tokens at times to the shape of a week. Pure NumPy; times in Unix seconds, hours on the clock of UTC."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenhour.contracts.standalone.traffic_profile import HOURS_PER_WEEK

Floats = NDArray[np.float64]
HOUR_S = 3600.0
_MONDAY_HOUR = 4 * 24  # 1970-01-05 was a Monday


@dataclass(frozen=True, slots=True)
class Week:
    """Share of the tokens in each of 168 hours, Monday 00:00 first, and over how many clock hours it was seen."""

    shares: tuple[float, ...]
    hours: int
    assumed: tuple[str, ...] = ()


def week_of(starts_s: Floats, ends_s: Floats, tokens: Floats) -> Week:
    """Average each hour of the week over the times that were seen; unseen hours get the mean of the seen ones.

    What ends later than it starts is a sum over that time, and is spread evenly over it.
    """
    first, sums = _by_hour(starts_s, ends_s, tokens)
    slots = (np.arange(first, first + len(sums)) - _MONDAY_HOUR) % HOURS_PER_WEEK
    total = np.bincount(slots, weights=sums, minlength=HOURS_PER_WEEK).astype(np.float64)
    seen = np.bincount(slots, minlength=HOURS_PER_WEEK)
    assumed: tuple[str, ...] = ()
    if (seen > 0).all():
        means = total / seen
    else:
        means, said = _fill_from_day(total, seen)
        assumed = (f"{int((seen == 0).sum())} of 168 hours of the week are not in the log: {said}",)
    return Week(tuple((means / means.sum()).tolist()), len(sums), assumed)


def _by_hour(starts_s: Floats, ends_s: Floats, tokens: Floats) -> tuple[int, Floats]:
    """Return (first clock hour, tokens of each clock hour from there to the last one)."""
    first = int(starts_s.min() // HOUR_S)
    last = max(int(starts_s.max() // HOUR_S), math.ceil(ends_s.max() / HOUR_S) - 1)
    sums = np.zeros(last - first + 1)
    within = ends_s <= (starts_s // HOUR_S + 1) * HOUR_S  # most: requests, and sums of no more than their hour
    np.add.at(sums, (starts_s[within] // HOUR_S).astype(np.int64) - first, tokens[within])
    for start, end, amount in zip(starts_s[~within], ends_s[~within], tokens[~within], strict=True):
        hours = np.arange(int(start // HOUR_S), math.ceil(end / HOUR_S))
        covered = np.minimum(end, (hours + 1) * HOUR_S) - np.maximum(start, hours * HOUR_S)
        sums[hours - first] += amount * covered / (end - start)
    return first, sums


def _fill_from_day(sums: Floats, seen: NDArray[np.signedinteger]) -> tuple[Floats, str]:
    days, times = sums.reshape(7, 24).sum(axis=0), seen.reshape(7, 24).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / seen
        daily = days / times
    overall = sums.sum() / seen.sum()
    daily = np.where(times == 0, overall, daily)
    said = "taken as the same hour of the days that are" if (times > 0).all() else "taken as the mean of the hours that are"
    return np.where(seen == 0, np.tile(daily, 7), means), said
