"""Telemetry by metric: means, peaks, rates, throttling and energy inside a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tokenhour.bench.statistics import metrics
from tokenhour.contracts.records.telemetry import TelemetryRow

# NVML's reasons that mean "slower than it could be": software and hardware slow-down, thermal, power brake. Not: idle, a
# clock that its owner set, the power cap that a loaded GPU always touches.
THROTTLING = 0x8 | 0x20 | 0x40 | 0x80


@dataclass(frozen=True, slots=True)
class Series:
    """One telemetry metric over the run."""

    t_s: metrics.Floats
    value: metrics.Floats

    def inside(self, start_s: float, end_s: float) -> metrics.Floats:
        """Return the values sampled in [start, end]."""
        return self.value[(self.t_s >= start_s) & (self.t_s <= end_s)]

    def falls(self, start_s: float, end_s: float) -> bool:
        """Tell whether a counter fell over a window: it ran over (RAPL's does, within the hour), or began anew."""
        first, last = np.searchsorted(self.t_s, start_s, "right") - 1, np.searchsorted(self.t_s, end_s, "left") + 1
        return bool((np.diff(self.value[max(0, first) : last]) < 0).any())

    def rate(self, start_s: float, end_s: float) -> float | None:
        """Return the mean increase a second of a counter, interpolated at the ends; None where it was not sampled."""
        if len(self.t_s) < 2 or start_s < self.t_s[0] - 2 or end_s > self.t_s[-1] + 2:
            return None
        low, high = np.interp([start_s, end_s], self.t_s, self.value)
        return float((high - low) / (end_s - start_s))

    def worst_second(self, start_s: float, end_s: float) -> float | None:
        """Return a counter's largest increase within a second; longer where no sample came meanwhile. None: too few samples.

        A wait that goes on is counted when it ends, so the samples of just after the window belong to it.
        """
        first, last = np.searchsorted(self.t_s, start_s, "right") - 1, np.searchsorted(self.t_s, end_s, "right") + 1
        t_s, value = self.t_s[max(0, first) : last], self.value[max(0, first) : last]
        if len(t_s) < 2:
            return None
        before = np.minimum(np.searchsorted(t_s, t_s - 1.0, "left"), np.maximum(0, np.arange(len(t_s)) - 1))
        return float((value - value[before]).max())


@dataclass(slots=True)
class Telemetry:
    """All samples by (source, index, metric)."""

    series: dict[tuple[str, str, str], Series] = field(default_factory=dict)
    on_cpu: bool = False
    """What was measured computes on a CPU."""

    @classmethod
    def of(cls, rows: Sequence[TelemetryRow], *, on_cpu: bool = False) -> Telemetry:
        """Group the samples."""
        grouped: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
        for row in rows:
            grouped.setdefault((row.source, row.index, row.metric), []).append((row.t_s, row.value))
        return cls({key: Series(*np.asarray(sorted(pairs)).T) for key, pairs in grouped.items()}, on_cpu)

    def mean(self, source: str, metric: str, start_s: float, end_s: float) -> float | None:
        """Return a gauge's mean inside a window; None where nothing was sampled."""
        found = self.series.get((source, "", metric))
        values = found.inside(start_s, end_s) if found else np.empty(0)
        return float(values.mean()) if len(values) else None

    def peak(self, source: str, metric: str, start_s: float, end_s: float) -> float | None:
        """Return a gauge's largest value inside a window."""
        found = self.series.get((source, "", metric))
        values = found.inside(start_s, end_s) if found else np.empty(0)
        return float(values.max()) if len(values) else None

    def rate(self, source: str, metric: str, start_s: float, end_s: float) -> float | None:
        """Return a counter's increase a second inside a window: the largest of its kind, such as of several workers."""
        rates = [s.rate(start_s, end_s) for (a, _, b), s in self.series.items() if (a, b) == (source, metric)]
        return max((r for r in rates if r is not None), default=None)

    def worst_second(self, source: str, metric: str, start_s: float, end_s: float) -> float | None:
        """Return a counter's largest increase within any second of a window, of several of its kind the largest."""
        found = [s.worst_second(start_s, end_s) for (a, _, b), s in self.series.items() if (a, b) == (source, metric)]
        return max((f for f in found if f is not None), default=None)

    def throttled(self, start_s: float, end_s: float) -> float | None:
        """Return the largest share of samples, over GPUs, with a clock that was throttled; None without such samples."""
        shares = [
            float(np.mean([int(v) & THROTTLING != 0 for v in values]))
            for (source, _, name), s in self.series.items()
            if (source, name) == ("gpu", "throttle_reasons") and len(values := s.inside(start_s, end_s))
        ]
        return max(shares, default=None)

    def blind_s(self, start_s: float, end_s: float) -> float:
        """Return the longest time of a window without a sample of a GPU; one that was lost is told of elsewhere."""
        lost = {index for _, index, name in self.series if name == "lost"}
        times: dict[str, list[metrics.Floats]] = {}
        for (source, index, name), s in self.series.items():
            if source == "gpu" and name != "xid":  # an event, no reading
                times.setdefault(index, []).append(s.t_s)
        if not times:
            return end_s - start_s
        gaps = [_longest_gap(np.concatenate(found), start_s, end_s) for index, found in times.items() if index not in lost]
        return max(gaps, default=0.0)

    def energy_j(self, start_s: float, end_s: float) -> float | None:
        """Return the joules that what was measured took over a window; None where they are not known.

        Those of its GPUs; of a CPU engine those of this host (RAPL), where its process is one of this host. A GPU without a
        counter and a server elsewhere have none: this host's would be another machine's.
        """
        here = self.on_cpu and any(source == "process" for source, _, _ in self.series)
        wanted = "host" if here else "gpu"
        found = [s for (source, _, name), s in self.series.items() if (source, name) == (wanted, "energy_j")]
        rates = [None if s.falls(start_s, end_s) else s.rate(start_s, end_s) for s in found]
        known = [r for r in rates if r is not None]
        return sum(known) * (end_s - start_s) if known and len(known) == len(rates) else None


def _longest_gap(times_s: metrics.Floats, start_s: float, end_s: float) -> float:
    inside = np.sort(times_s[(times_s > start_s) & (times_s < end_s)])
    return float(np.diff(np.concatenate([[start_s], inside, [end_s]])).max())
