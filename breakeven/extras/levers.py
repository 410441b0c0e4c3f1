"""The levers of a scenario: measured, quoted or assumed, compounded on the best run's bill. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tokenhour.breakeven.extras import lever_math
from tokenhour.breakeven.extras.purchasing import spot_plan
from tokenhour.breakeven.inputs import idle_savings
from tokenhour.breakeven.inputs.problem import Question
from tokenhour.breakeven.model.replica_curve import Curve, Rules
from tokenhour.breakeven.solve.run_context import Business
from tokenhour.contracts.config.economics_extras import LeverSpec
from tokenhour.contracts.records.verdict import RunVerdict
from tokenhour.contracts.records.verdict_extras import LeverFigure, LeverPlan


def lever_plan(question: Question, main: Business, runs: Sequence[RunVerdict], best: RunVerdict) -> LeverPlan:
    """Compound the levers on the best run's bill."""
    if best.cost_today is None:
        raise AssertionError
    figures, left_out = [], []
    for spec in question.economics.levers:
        found = _lever(question, main, runs, spec)
        if found is None:
            left_out.append(f"{spec.lever}: nothing measured or quoted it here, and no range is given")
        else:
            figures.append(found)
    lines = lever_math.by_line(figures, lever_math.weights(best.cost_today))
    low, high = lever_math.whole(lines)
    return LeverPlan(
        run=best.run,
        figures=tuple(figures),
        lines=lines,
        low=low,
        high=high,
        bill_usd_per_month=best.cost_today.total,
        left_out=tuple(left_out),
    )


def _lever(question: Question, main: Business, runs: Sequence[RunVerdict], spec: LeverSpec) -> LeverFigure | None:
    """Return the measured (or quoted) figure of a lever, else the range that is given."""
    known = _known_lever(question, main, runs, spec)
    if known is not None:
        low, high, badge, source = known
        return LeverFigure(lever=spec.lever, line=spec.line, low=low, high=high, badge=badge, source=source)
    if spec.low is None or spec.high is None:
        return None
    return LeverFigure(
        lever=spec.lever, line=spec.line, low=spec.low, high=spec.high, badge="assumed", source=spec.source or "scenario"
    )


def _known_lever(question: Question, main: Business, runs: Sequence[RunVerdict], spec: LeverSpec) -> Any:
    if spec.line != "gpu":
        return None
    known: dict[str, Callable[[], Any]] = {
        "quantization": lambda: _quantization(runs),
        "autoscaling": lambda: _autoscaling(main),
        "caching": lambda: _caching(main),
        "idle_gpus": lambda: _resting(main),
        "spot": lambda: _bought_cheaper(main, question, "spot"),
        "commitments": lambda: _bought_cheaper(main, question, "commitments"),
    }
    return known[spec.lever]() if spec.lever in known else None


def _quantization(runs: Sequence[RunVerdict]) -> tuple[float, float, str, str] | None:
    """Return what the best quantized run saves a token against the original; at most nothing when it is slower."""
    plain = next((r for r in runs if r.scheme == "none" and r.capacity_interval), None)
    other = [r for r in runs if r.scheme != "none" and r.capacity_interval and r.origin and r.origin.badge == "measured"]
    if plain is None or plain.capacity_interval is None or not other:
        return None
    best = max(other, key=lambda r: r.capacity_tokens_per_month or 0.0)
    a, b = plain.capacity_interval, best.capacity_interval
    if b is None:
        return None
    low = 1 - (a.high or a.value) / (b.low or b.value)
    high = 1 - (a.low or a.value) / (b.high or b.value)
    return max(0.0, low), max(0.0, high), "measured", f"{best.run} against {plain.run}, ends of their 95 % intervals"


def _autoscaling(main: Business) -> tuple[float, float, str, str] | None:
    """Return what following the profile saves against a fleet for its peak, with the measured cold start."""
    rules, curve = main.curve.rules, main.curve
    if len(curve.weights) == 1 or main.u <= 0:
        return None
    u = np.array([main.u])
    fixed = Rules(rules.redundancy, rules.min_replicas, rules.max_replicas)
    follow = Rules(rules.redundancy, rules.min_replicas, rules.max_replicas, True, rules.cold_start_s)
    saved = 1 - float(Curve(follow, curve.weights).replica_months(u)[0] / Curve(fixed, curve.weights).replica_months(u)[0])
    if rules.autoscale:
        return None
    known = main.question.demand.badge == "measured" and main.plant.origin and main.plant.origin.badge == "measured"
    source = f"computed on {main.question.demand.source}, cold start {rules.cold_start_s:.0f} s"
    return saved, saved, "measured" if known else "assumed", source


def _caching(main: Business) -> tuple[float, float, str, str] | None:
    """Return the share of work that the measured prefix-cache hits take away: hits x input's share of the work."""
    origin, spec = main.plant.origin, main.question.economics
    if origin is None or not origin.prefix_hit_rate:
        return None
    into = main.traffic.prompt_tokens / spec.price_ratio
    saved = origin.prefix_hit_rate * into / (into + main.traffic.output_tokens)
    return saved, saved, "measured", f"prefix-cache hit rate {origin.prefix_hit_rate:.0%} of {origin.source}"


def _resting(main: Business) -> tuple[float, float, str, str] | None:
    """Return what resting saved where the server was watched; hours that an autoscaled fleet skips are not saved twice."""
    found = main.plant.idle
    if found is None:
        return None
    follows = any(lever.lever == "autoscaling" for lever in main.question.economics.levers)
    if main.curve.rules.autoscale or follows:
        low, when = 0.0, f"some of it is in the {'lever autoscaling' if follows else 'autoscaled bill'} already"
    elif found.gpu_is_free:
        low, when = found.saved_low, "when the machine is given back meanwhile"
    else:
        low, when = found.saved_low, "the machine stays paid: only where something else uses the memory"
    return low, found.saved_high, "measured", f"{idle_savings.told(found)}; {when} ({found.source})"


def _bought_cheaper(main: Business, question: Question, lever: str) -> tuple[float, float, str, str] | None:
    row, spec = main.row, question.economics
    if row is None or row.on_demand is None or not row.on_demand or spec.purchase != "on_demand":
        return None
    prices = [row.spot] if lever == "spot" else [row.reserved_1y, row.reserved_3y]
    found = sorted(1 - float(p / row.on_demand) for p in prices if p is not None)
    if not found:
        return None
    if lever == "spot" and spec.spot:
        saved = spot_plan(main, spec.spot).serving_saved_share
        found = [max(0.0, saved)]
    return found[0], found[-1], "quoted", f"{row.source}, checked {row.checked_on}"
