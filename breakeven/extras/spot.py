"""Interruptible machines: what they cost a batch job that checkpoints, and how many replicas a service needs. Pure."""

from __future__ import annotations

import math

from tokenhour.contracts.errors import InputError


def overhead(interruptions_per_hour: float, interval_h: float, restart_h: float, checkpoint_cost_h: float = 0.0) -> float:
    """Return the share of time lost: lambda (tau/2 + R) + delta/tau. At 1 or more no work gets done."""
    if interval_h <= 0:
        raise InputError(f"{interval_h} h cannot be", where="checkpoint_interval_h", remedy="give a number above 0")
    return interruptions_per_hour * (interval_h / 2 + restart_h) + checkpoint_cost_h / interval_h


def best_interval_h(interruptions_per_hour: float, checkpoint_cost_h: float) -> float | None:
    """Return the interval with the least overhead, sqrt(2 delta / lambda); None where one of the two is zero."""
    if interruptions_per_hour <= 0 or checkpoint_cost_h <= 0:
        return None
    return math.sqrt(2 * checkpoint_cost_h / interruptions_per_hour)


def price_ratio(discount: float, lost: float) -> float | None:
    """Return the cost of finished work against on-demand, (1 - d)/(1 - overhead); None where none gets finished."""
    return (1 - discount) / (1 - lost) if lost < 1 else None


def serving_replicas(replicas: float, unavailable_share: float) -> int:
    """Return ceil(n / (1 - u)): spot replicas that keep n standing on average."""
    return math.ceil(replicas / (1 - unavailable_share) - 1e-9)


def serving_saved_share(replicas: float, unavailable_share: float, discount: float, fallback_share: float) -> float:
    """Return what a service saves against n on-demand replicas.

    It pays for the spot replicas while they stand, and for n on-demand ones during `fallback_share` of the time. A published
    serving system measured 43 % (economics.md), where discounts of 60-90 % are advertised.
    """
    if not replicas:
        return 0.0
    spot = serving_replicas(replicas, unavailable_share) * (1 - unavailable_share) * (1 - discount)
    return 1 - (spot + replicas * fallback_share) / replicas
