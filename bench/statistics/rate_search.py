"""Which rate to try next: a pure state machine between saturation and the SLO capacity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tokenhour.bench.statistics.metrics import samples_needed
from tokenhour.contracts.config.bench import BenchSpec, SearchSpec, SloSpec
from tokenhour.contracts.errors import InputError

FIRST_SHARE = 0.7
GROWTH = 1.2
CEILING = 1.05  # of the saturated completion rate: above it no queue is stable
MARGIN = 1.15  # more arrivals than the percentile wants, since their number is random
STRONG = 0.5  # an excess beyond it is no chance
_CERTAIN = 1.5  # the excess of an outcome of which nothing more is known, and the largest that counts
_NEAR = 0.15  # of the logarithm of the rate: so far around the capacity the excess is nearly a straight line
TOLERANCE = 0.01  # of the rate: so near the estimated capacity a rate's own outcome stands
_WITHIN = 0.8  # of a bracket's width: a passing end so near below the capacity needs only its other end


@dataclass(frozen=True, slots=True)
class NextProbe:
    """The next probe: a rate (requests/s), and whether it repeats one that was tried."""

    rate_rps: float
    confirms: bool = False


@dataclass(frozen=True, slots=True)
class Tried:
    """A probe that was made."""

    rate_rps: float
    excess: float
    """ln(share of requests that missed / share that may): at most 0 where it passed, above where it failed."""

    @property
    def x(self) -> float:
        """The logarithm of the rate."""
        return math.log(self.rate_rps)


def excess_of(*, passed: bool, missed: float | None, may: float) -> float:
    """Return the excess of a probe in which a share `missed` of the requests missed a bound that a share `may` may miss.

    An unstable probe failed whatever it missed. None: unknown, only the outcome counts.
    """
    if missed is None:
        return -_CERTAIN if passed else _CERTAIN
    found = max(-_CERTAIN, min(_CERTAIN, math.log(max(missed, 1e-6) / may)))
    return min(found, 0.0) if passed else max(found, 0.02)


@dataclass(frozen=True, slots=True)
class Bracket:
    """What is known: the saturated rate (requests/s), and every probe.

    One probe near the capacity passes or fails by chance: in 600 s of a queue the share that misses varies by a quarter.
    So the probes are judged together: by their excess against the logarithm of the rate, which is nearly a straight line
    there, and whose zero is the capacity. Where a rate's own outcome and that line disagree, it is measured once more.
    """

    saturated_rps: float
    probes: tuple[Tried, ...] = ()

    def add(self, rate_rps: float, *, passed: bool, missed: float | None = None, may: float = 0.1) -> Bracket:
        """Return the bracket after one more probe; a repeat is pooled with the earlier ones of its rate."""
        return replace(self, probes=(*self.probes, Tried(rate_rps, excess_of(passed=passed, missed=missed, may=may))))

    @property
    def tried(self) -> int:
        """How many probes were made."""
        return len(self.probes)

    def pooled(self) -> dict[float, float]:
        """Return the mean excess of each rate."""
        found: dict[float, list[float]] = {}
        for probe in self.probes:
            found.setdefault(probe.rate_rps, []).append(probe.excess)
        return {rate: sum(values) / len(values) for rate, values in sorted(found.items())}

    def repeats(self, rate_rps: float) -> int:
        """How often a rate was measured after its first time."""
        return sum(p.rate_rps == rate_rps for p in self.probes) - 1

    def capacity(self) -> float | None:
        """Return the rate at which the excess is zero; None before both a passing and a failing rate are known."""
        own = self.pooled()
        passing, failing = [r for r, e in own.items() if e <= 0], [r for r, e in own.items() if e > 0]
        if not passing or not failing:
            return None
        found = _zero(self.probes) or math.sqrt(max(passing) * min(failing))
        near = [p for p in self.probes if abs(p.x - math.log(found)) < _NEAR]
        found = _zero(near) or found if len(near) > 2 else found
        floor = max((r for r, e in own.items() if e <= -STRONG), default=0.0)
        top = min((r for r, e in own.items() if e >= STRONG), default=math.inf)
        # Beyond all doubt, unless the certain ones contradict each other.
        return min(max(found, floor), top * (1 - 1e-9)) if floor < top else found

    @property
    def highest_passing_rps(self) -> float | None:
        """The highest rate that passed, and not by chance alone: below the capacity that all probes tell, or repeated."""
        top = (self.capacity() or math.inf) * (1 + TOLERANCE)
        return max((r for r, e in self.pooled().items() if e <= 0 and (r <= top or self.repeats(r))), default=None)

    @property
    def lowest_failing_rps(self) -> float | None:
        """The lowest rate above it that failed."""
        low = self.highest_passing_rps or 0.0
        return min((r for r, e in self.pooled().items() if e > 0 and r > low), default=None)

    def doubtful(self) -> float | None:
        """Return the rate whose one probe says, weakly, the opposite of all probes together; None where no end hangs on it.

        That is a rate up to the failing end: one that passed above the capacity, or failed below it.
        """
        limit, low, high = self.capacity(), self.highest_passing_rps or 0.0, self.lowest_failing_rps or math.inf
        if limit is None:
            return None

        def odd(rate: float, excess: float) -> bool:
            off = rate > limit * (1 + TOLERANCE) if excess <= 0 else rate < limit / (1 + TOLERANCE)
            return off and abs(excess) < STRONG and not self.repeats(rate)

        found = [r for r, e in self.pooled().items() if low < r <= high and odd(r, e)]
        return min(found, key=lambda r: abs(math.log(r / limit)), default=None)

    def narrow(self, precision: float) -> bool:
        """Tell whether the bracket is as narrow as asked for."""
        low, high = self.highest_passing_rps, self.lowest_failing_rps
        if low is None:
            return False
        return (high if high is not None else CEILING * self.saturated_rps) <= low * (1 + precision) * (1 + 1e-9)


def _zero(probes: Sequence[Tried]) -> float | None:
    """Return the rate at which the least-squares line of the excess is zero; None where it does not rise."""
    count = len(probes)
    x, y = sum(p.x for p in probes) / count, sum(p.excess for p in probes) / count
    spread = sum((p.x - x) ** 2 for p in probes)
    rise = sum((p.x - x) * (p.excess - y) for p in probes)
    # A slope of a half: twice the rate would not even double the misses. Then there is no line to speak of.
    return math.exp(x - y * spread / rise) if spread > 0 and rise > 0.5 * spread else None


def next_rate(found: Bracket, spec: SearchSpec) -> NextProbe | None:
    """Return the next probe, or None when the bracket is narrow enough and confirmed, or the probes are used up.

    Starts at 0.7 of the saturated rate and grows or shrinks geometrically until both sides are known. From then on the
    capacity is estimated from all probes, and the ends of a bracket as wide as the precision are put around it. An outcome
    that the others contradict is repeated, and at the end the highest passing rate `confirm` times. Never offers more than
    1.05 x the saturated rate: that would fail for certain.
    """
    if found.tried >= spec.max_probes or found.saturated_rps <= 0:
        return None
    if (odd := found.doubtful()) is not None:
        return NextProbe(odd, confirms=True)
    low, high = found.highest_passing_rps, found.lowest_failing_rps
    if found.narrow(spec.precision):
        return NextProbe(low, confirms=True) if low is not None and found.repeats(low) < spec.confirm else None
    if low is None:
        return NextProbe(min(found.pooled()) / GROWTH**2 if found.probes else FIRST_SHARE * found.saturated_rps)
    if high is None:
        return NextProbe(min(low * GROWTH, CEILING * found.saturated_rps))
    return NextProbe(_inside(low, high, found.capacity() or math.sqrt(low * high), 1 + spec.precision))


def _inside(low: float, high: float, capacity: float, width: float) -> float:
    """Return the next rate: the passing end half a `width` (a ratio) below the capacity, or the failing end to match it."""
    wanted = low * width if low >= capacity / width**_WITHIN else capacity / math.sqrt(width)
    return wanted if low * 1.001 < wanted < high / 1.001 else math.sqrt(low * high)


def window_s(rate_rps: float, spec: SearchSpec, slo: SloSpec, cycle_s: float | None = None) -> float:
    """Return how long the steady window must be for the SLO's percentile to be estimable, within [probe_s, max_probe_s].

    Where arrivals repeat a cycle (`ArrivalSpec.cycle_s`) the window holds whole ones, up to the last that max_probe_s
    allows: any other has more or less of its busy part than its rate says.
    """
    wanted = MARGIN * samples_needed(slo.percentile) / rate_rps
    found = min(max(wanted, spec.probe_s), spec.max_probe_s)
    if cycle_s is None:
        return found
    most = max(1, math.floor(spec.max_probe_s / cycle_s * (1 + 1e-9)))
    return cycle_s * min(most, math.ceil(found / cycle_s * (1 - 1e-9)))


def check_searchable(spec: BenchSpec, verb: str) -> None:
    """Refuse a load without rates before any server is asked. Raises InputError."""
    if spec.arrivals.process == "closed":
        raise InputError(
            "closed: a closed loop has no rate, and a search and a sweep try rates",
            where="arrivals.process",
            remedy=f"`tokenhour bench run` measures its concurrency; `bench {verb}` wants another process, such as poisson",
        )
