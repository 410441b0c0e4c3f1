"""One run beside one API, as numbers: what every sensitivity of the verdict is computed from. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tokenhour.breakeven.model.crossings import first_of_many
from tokenhour.breakeven.model.replica_curve import Curve, Floats


@dataclass(frozen=True, slots=True)
class Position:
    """Money in USD a month, volumes in tokens a month."""

    curve: Curve
    machine_usd: float
    """One replica, without operations."""
    ops_share: float
    """Operations as a share of the machines' cost."""
    ops_usd: float
    """Operations and engineering that do not grow with the machines."""
    other_usd: float
    """Storage, egress, set-up."""
    replica_tokens: float
    api_usd_per_token: float
    tokens: float
    """Today's volume."""

    @property
    def replica_usd(self) -> float:
        """Return one replica with its operations."""
        return self.machine_usd * (1 + self.ops_share)

    @property
    def fixed_usd(self) -> float:
        """Return what does not depend on the volume."""
        return self.ops_usd + self.other_usd

    def self_host_usd(self, tokens: float) -> float:
        """Return the month's cost of a volume."""
        months = self.curve.replica_months(np.array([tokens / self.replica_tokens]))
        return self.fixed_usd + self.replica_usd * float(months[0])


class Multiples(NamedTuple):
    """Multiples of the uncertain inputs, arrays of one shape."""

    capacity: Floats
    gpu_price: Floats
    api_price: Floats
    volume: Floats
    ops: Floats


class Outcomes(NamedTuple):
    """What each draw comes to; `first_tokens` is NaN where there is no break-even within the fleet."""

    saving_usd: Floats
    first_tokens: Floats


def evaluate(at: Position, by: Multiples) -> Outcomes:
    """Return saving at today's volume and first break-even for every draw."""
    replica = at.machine_usd * by.gpu_price * (1 + at.ops_share * by.ops)
    fixed = at.ops_usd * by.ops + at.other_usd
    tokens = at.replica_tokens * by.capacity
    price = at.api_usd_per_token * by.api_price
    volume = at.tokens * by.volume
    saving = price * volume - fixed - replica * at.curve.replica_months(volume / tokens)
    first = first_of_many(at.curve, price * tokens / replica, fixed / replica) * tokens
    return Outcomes(saving, first)
