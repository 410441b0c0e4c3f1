"""The cheapest mixture of base replicas and API overflow, exact on hourly demand. Pure."""

from __future__ import annotations

import numpy as np

from tokenhour.breakeven.model.replica_curve import Floats
from tokenhour.contracts.records.verdict import Hybrid


def optimum(
    weights: Floats,
    u: float,
    replica_usd: float,
    fixed_usd: float,
    api_usd: float,
    *,
    redundancy: int = 0,
    max_replicas: int = 1000,
) -> Hybrid:
    """Minimise F 1[k>0] + G (k + r 1[k>0]) + p sum_t max(0, D_t - k c) over the base replicas k.

    `u` is the volume over a replica's capacity, `api_usd` the whole volume by API. The gain of one more replica falls with
    k, so for k >= 1 the sum is convex and a bisection on its slope finds the least; k = 0 is compared because of F.
    """
    if u <= 0:
        return _mixture(0, 0.0, 0.0, 0.0)
    shares = Overflow(weights, u)
    top = min(int(np.ceil(u * weights.max())), max_replicas)
    best = _mixture(0, 1.0, 0.0, api_usd)
    if top < 1:
        return best
    low, high = 1, top
    while low < high:
        middle = (low + high) // 2
        if api_usd * (shares(middle) - shares(middle + 1)) > replica_usd:
            low = middle + 1
        else:
            high = middle
    share = shares(low)
    mixed = _mixture(low, share, fixed_usd + replica_usd * (low + redundancy), api_usd * share)
    return mixed if mixed.usd_per_month < best.usd_per_month else best


def _mixture(base: int, share: float, own: float, api: float) -> Hybrid:
    return Hybrid(
        base_replicas=base, overflow_share=share, usd_per_month=own + api, own_usd_per_month=own, api_usd_per_month=api
    )


class Overflow:
    """Share of the tokens that `k` replicas leave over, with the sorted weights summed once."""

    def __init__(self, weights: Floats, u: float) -> None:
        self._sorted = np.sort(weights)
        self._above = np.concatenate((np.cumsum(self._sorted[::-1])[::-1], [0.0]))
        self._u = u

    def __call__(self, k: int) -> float:
        """Return mean(max(0, w - k/u))."""
        level = k / self._u
        index = int(np.searchsorted(self._sorted, level, side="right"))
        count = len(self._sorted)
        return max(0.0, float(self._above[index] - level * (count - index))) / count
