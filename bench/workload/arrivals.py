"""When requests come: absolute times from a seed, drawn before the run. Pure NumPy.

Every process offers the same mean rate; a schedule is computed once, never re-anchored, and striped over workers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokenhour.contracts.config.bench import ArrivalSpec

Floats = NDArray[np.float64]


def rng_of(seed: int, probe: int) -> np.random.Generator:
    """Return the generator of a probe's arrival times, apart from that of its lengths."""
    return np.random.default_rng([seed, probe, 0])


def schedule(
    spec: ArrivalSpec, rate_rps: float, horizon_s: float, rng: np.random.Generator, trace_s: Floats | None = None
) -> Floats:
    """Return the arrival times in [0, horizon), s, at a mean of `rate_rps`. `trace_s`: times of a recorded trace.

    An arrival is a request, or a whole conversation: then `rate_rps` is that of conversations.
    """
    match spec.process:
        case "constant":
            return constant(rate_rps, horizon_s)
        case "gamma":
            return gamma(rate_rps, horizon_s, spec.burstiness, rng)
        case "bursts":
            return bursts(rate_rps, horizon_s, spec.on_s, spec.off_s, rng)
        case "diurnal":
            return diurnal(rate_rps, horizon_s, np.asarray(spec.hourly_share), spec.day_s, rng)
        case "trace":
            return trace(np.empty(0) if trace_s is None else trace_s, rate_rps, horizon_s)
        case _:
            return poisson(rate_rps, horizon_s, rng)


def poisson(rate_rps: float, horizon_s: float, rng: np.random.Generator) -> Floats:
    """Exponential gaps."""
    return gamma(rate_rps, horizon_s, 1.0, rng)


def constant(rate_rps: float, horizon_s: float) -> Floats:
    """Equal gaps, the first arrival after one of them."""
    times = np.arange(1, int(rate_rps * horizon_s) + 2) / rate_rps
    return times[times < horizon_s]


def gamma(rate_rps: float, horizon_s: float, shape: float, rng: np.random.Generator) -> Floats:
    """Gamma gaps of mean 1/rate and coefficient of variation 1/sqrt(shape)."""
    expected = rate_rps * horizon_s
    count = int(expected + 10 * np.sqrt(expected / min(shape, 1.0)) + 20)
    times = np.cumsum(rng.gamma(shape, 1 / (rate_rps * shape), size=count))
    while times[-1] < horizon_s:
        more = np.cumsum(rng.gamma(shape, 1 / (rate_rps * shape), size=count))
        times = np.concatenate([times, times[-1] + more])
    return times[times < horizon_s]


def bursts(rate_rps: float, horizon_s: float, on_s: float, off_s: float, rng: np.random.Generator) -> Floats:
    """Poisson arrivals in on-phases only, at rate * (on + off) / on there."""
    cycle = on_s + off_s
    busy_s = horizon_s / cycle * on_s + on_s
    within = poisson(rate_rps * cycle / on_s, busy_s, rng)
    times: Floats = within + np.floor(within / on_s) * off_s
    return times[times < horizon_s]


def diurnal(rate_rps: float, horizon_s: float, shares: Floats, day_s: float, rng: np.random.Generator) -> Floats:
    """Return a Poisson process whose rate follows the shape of a day, by thinning (Lewis & Shedler 1979)."""
    relative = shares / shares.mean()
    candidates = poisson(rate_rps * float(relative.max()), horizon_s, rng)
    part = np.floor(candidates % day_s / day_s * len(relative)).astype(np.int64)
    keep = rng.random(len(candidates)) < relative[part] / relative.max()
    found: Floats = candidates[keep]
    return found


def trace(times_s: Floats, rate_rps: float, horizon_s: float) -> Floats:
    """Stretch or squeeze recorded times to the offered rate, repeated until the horizon; their order is kept."""
    if len(times_s) < 2 or times_s[-1] <= times_s[0]:
        return np.empty(0)
    start = times_s - times_s[0]
    length = float(start[-1]) * len(start) / (len(start) - 1)  # the last gap is taken to be a mean one
    factor = len(start) / length / rate_rps
    rounds = int(np.ceil(horizon_s / (length * factor))) + 1
    times: Floats = np.concatenate([(start + k * length) * factor for k in range(rounds)])
    return times[times < horizon_s]


def native_rate_rps(times_s: Floats) -> float:
    """Return a trace's own mean rate, requests/s; its times are not all the same."""
    return (len(times_s) - 1) / float(times_s[-1] - times_s[0])
