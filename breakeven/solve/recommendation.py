"""What to do, in a code for programs and in a sentence for people: both from the figures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tokenhour.contracts.config.economics import EconomicsSpec
from tokenhour.contracts.records.verdict import Comparison, Recommendation, RunVerdict, TrafficToday
from tokenhour.contracts.units import human_count

HYBRID_GAIN = 0.01
"""A mixture is recommended when it is cheaper than either side by at least this share."""


def mixes(c: Comparison) -> bool:
    """Tell whether base replicas with overflow to this API are clearly cheaper than either alone."""
    either = min(c.api_usd_per_month, c.self_host_usd_per_month)
    mixed = c.hybrid.base_replicas > 0 and c.hybrid.overflow_share > 0
    return mixed and c.hybrid.usd_per_month < (1 - HYBRID_GAIN) * either


def advice(c: Comparison) -> Literal["hybrid", "self-host", "stay"]:
    """Say what to do about one API."""
    return "hybrid" if mixes(c) else "self-host" if c.wins_today else "stay"


def recommendation(best: RunVerdict | None) -> Recommendation:
    """Say what the best run's comparisons come to; `none` where no run has a capacity."""
    if best is None:
        return "none"
    if all(map(mixes, best.comparisons)):
        return "hybrid"
    wins = [c.wins_today for c in best.comparisons]
    return "self-host" if all(wins) else "depends" if any(wins) or any(map(mixes, best.comparisons)) else "stay"


def machine_name(run: RunVerdict, spec: EconomicsSpec | None) -> str:
    """Name a run's machine without how it is bought."""
    if run.instance:
        return run.instance.name
    return spec.owned.name if spec and spec.owned else run.machine


def sentence(best: RunVerdict | None, traffic: TrafficToday, spec: EconomicsSpec) -> str:
    """Say the verdict in a sentence or two, in words that a decision-maker uses."""
    if best is None:
        return "No tested rate met the latency objective with any precision: there is no capacity to put a price on."
    apis, machine = best.comparisons, machine_name(best, spec)
    run = best.run if best.origin is None or best.origin.badge != "assumed" else f"{best.run} (assumed capacity)"
    winning, mixed = [c for c in apis if c.wins_today], [c for c in apis if mixes(c)]
    at = f"at {human_count(traffic.tokens_per_month)} tokens a month"
    if len(mixed) == len(apis):
        head = f"Do both: {at} {_base(mixed)} of {run} on {machine} with overflow to the API beat either alone"
    elif not winning:
        loses = f"beats none of the {len(apis)} APIs" if len(apis) > 1 else f"does not beat {_names(apis)}"
        head = f"Stay with the API: {at} self-hosting {run} on {machine} {loses}"
    elif len(winning) == len(apis):
        head = f"Self-host: {at} {run} on {machine} beats {f'all {len(apis)} APIs' if len(apis) > 1 else _names(apis)}"
    else:
        losing = _names([c for c in apis if not c.wins_today])
        head = f"It depends on the API: {at} {run} on {machine} beats {_names(winning)} and loses to {losing}"
    never = [c for c in apis if c.outcome == "never"]
    tail = f". Against {_names(never)} it never pays off at any volume" if never else ""
    also = f". Cheaper still: {_base(mixed)} with overflow to {_names(mixed)}" if mixed and len(mixed) < len(apis) else ""
    return f"{head}{tail}{also}."


def _base(mixed: Sequence[Comparison]) -> str:
    counts = sorted({c.hybrid.base_replicas for c in mixed})
    said = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{said} base replica{'s' if counts[-1] > 1 else ''}"


def _names(comparisons: Sequence[Comparison]) -> str:
    """List APIs as people do: a, b and c."""
    said = [c.price.title for c in comparisons]
    return ", ".join(said[:-1]) + f" and {said[-1]}" if len(said) > 1 else said[0]
