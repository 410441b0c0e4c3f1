"""All crossings of an integer-replica cost staircase with an API's straight line. Pure; the heart of the house.

With volume V, replica capacity C, replica cost G, fixed cost F, spare replicas r and API price p (all a month, p a token):
self-hosting costs S(V) = F + G (ceil(V/C) + r), the API p V. Self-hosting wins exactly on the union over n of
( max((F + G (n + r)) / p, (n - 1) C), n C ].
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.verdict import Outcome

LISTED = 50
LARGEST = 10**12
"""Replicas beyond which no fleet is thought of, and doubles no longer tell the steps apart."""
_TOUCHING = 1e-12


@dataclass(frozen=True, slots=True)
class Staircase:
    """A month of self-hosting: cost and token capacity of one replica, fixed cost, spare replicas."""

    replica_usd: float
    replica_tokens: float
    fixed_usd: float = 0.0
    redundancy: int = 0

    def __post_init__(self) -> None:
        for name, value, above in (
            ("replica_usd", self.replica_usd, True),
            ("replica_tokens", self.replica_tokens, True),
            ("fixed_usd", self.fixed_usd, False),
            ("redundancy", self.redundancy, False),
        ):
            if not math.isfinite(value) or value < 0 or (above and value == 0):
                remedy = f"give a number {'above' if above else 'of at least'} 0"
                raise InputError(f"{value} cannot be", where=name, remedy=remedy)

    def replicas(self, tokens: float) -> int:
        """Return the serving replicas that a volume needs, spares not counted."""
        return math.ceil(tokens / self.replica_tokens)

    def cost_usd(self, tokens: float) -> float:
        """Return the month's cost of a volume."""
        return self.fixed_usd + self.replica_usd * (self.replicas(tokens) + self.redundancy)


@dataclass(frozen=True, slots=True)
class Crossings:
    """Where self-hosting wins: windows (above, up to and including), the first and the lasting crossing."""

    windows: tuple[tuple[float, float | None], ...]
    first_tokens: float | None
    stable_tokens: float | None
    outcome: Outcome
    first_replicas: int | None


def solve(stairs: Staircase, api_usd_per_token: float, max_replicas: int = sys.maxsize) -> Crossings:
    """Find every window in closed form.

    Never, when a full replica costs at least what the API takes for its tokens (p C <= G). Otherwise the first window is
    on step n1 = floor((F + G r) / (p C - G)) + 1, and from step ns = ceil((F + G (1 + r)) / (p C - G)) on every window
    touches the next, so that it wins for good from there.
    """
    if not math.isfinite(api_usd_per_token) or api_usd_per_token < 0:
        raise InputError(f"{api_usd_per_token} is no price", where="api_usd_per_mtok", remedy="give a number of at least 0")
    margin = api_usd_per_token * stairs.replica_tokens - stairs.replica_usd
    if margin <= 0:
        return Crossings((), None, None, "never", None)
    spare = stairs.fixed_usd + stairs.replica_usd * stairs.redundancy
    limit = min(max_replicas, LARGEST)
    first_step = _first_step(stairs, api_usd_per_token, spare / margin, limit)
    if first_step is None:
        return Crossings((), None, None, "beyond_capacity", None)
    stable_step = max(first_step, math.ceil(min((spare + stairs.replica_usd) / margin, 2.0 * LARGEST)))
    return _within(stairs, api_usd_per_token, first_step, stable_step, limit)


def _first_step(stairs: Staircase, api_usd_per_token: float, quotient: float, limit: int) -> int | None:
    """Return the first step with a window, floor(quotient) + 1, or the next that is not empty by rounding; None beyond."""

    def empty(step: int) -> bool:
        return _onset(stairs, api_usd_per_token, step) >= step * stairs.replica_tokens

    if quotient >= limit:
        return None
    step, jump = math.floor(quotient) + 1, 1
    if not empty(step):
        return step
    while empty(step + jump):
        if step + jump > limit:
            return None
        jump *= 2
    while jump > 1:
        jump //= 2
        if empty(step + jump):
            step += jump
    return step + 1 if step + 1 <= limit else None


def _within(stairs: Staircase, api_usd_per_token: float, first_step: int, stable_step: int, max_replicas: int) -> Crossings:
    """List the windows up to the fleet's limit; the last is open-ended only when it begins within that limit."""
    first = _onset(stairs, api_usd_per_token, first_step)
    lasting = stable_step <= max_replicas
    last = min(stable_step if lasting else max_replicas + 1, first_step + (LISTED - 1 if lasting else LISTED))
    closed = [(_onset(stairs, api_usd_per_token, n), n * stairs.replica_tokens) for n in range(first_step, last)]
    if not lasting:
        return Crossings(_joined(closed), first, None, "first", first_step)
    windows = _joined([*closed, (_onset(stairs, api_usd_per_token, stable_step), None)])
    stable = windows[-1][0]
    outcome: Outcome = "first" if first < stable else "stable"
    return Crossings(windows, first, stable, outcome, first_step)


def _joined(windows: Sequence[tuple[float, float | None]]) -> tuple[tuple[float, float | None], ...]:
    """Make one of windows that touch (up to rounding), and leave out empty ones."""
    found: list[tuple[float, float | None]] = []
    for above, to in windows:
        if to is not None and above >= to:
            continue
        before = found[-1][1] if found else None
        if before is not None and above <= before * (1 + _TOUCHING):
            found[-1] = (found[-1][0], to)
        else:
            found.append((above, to))
    return tuple(found)


def _onset(stairs: Staircase, api_usd_per_token: float, step: int) -> float:
    """Return the volume above which step `step` of the staircase lies below the API's line."""
    cost = stairs.fixed_usd + stairs.replica_usd * (step + stairs.redundancy)
    return max(cost / api_usd_per_token, (step - 1) * stairs.replica_tokens)
