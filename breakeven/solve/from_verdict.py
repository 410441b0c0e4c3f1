"""A verdict's own numbers, ready to be computed with again: for plots, for the explorer, for `recheck`. Pure."""

from __future__ import annotations

import numpy as np

from tokenhour.breakeven.inputs.demand import Demand
from tokenhour.breakeven.model.cost_point import Position
from tokenhour.breakeven.model.plant import Plant
from tokenhour.breakeven.model.replica_curve import Curve, Floats, Rules
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.verdict import RunVerdict, Verdict
from tokenhour.contracts.units import HOURS_PER_MONTH


def position(verdict: Verdict, run: RunVerdict, api_usd_per_token: float = 0.0) -> Position:
    """Return a run of a verdict (of any version) beside an API's price; the run must have a capacity."""
    bill = run.cost_today
    if bill is None or run.capacity_tokens_per_month is None:
        raise AssertionError
    spec, fleet = verdict.economics, run.fleet
    machine = run.replica_usd_per_hour * HOURS_PER_MONTH
    weights: Floats = np.ones(1)
    if spec is None or fleet is None or verdict.traffic is None:
        rules = Rules(redundancy=round(bill.redundancy / machine) if machine else 0)
        people, share = bill.ops + bill.engineering, 0.0
    else:
        rules = Rules(
            fleet.redundancy, fleet.min_replicas, fleet.max_replicas, fleet.scaling == "autoscale", fleet.cold_start_s
        )
        people, share = spec.ops_usd_per_month + spec.engineering_usd_per_month, spec.ops_share
        weights = np.asarray(verdict.traffic.hourly_weights)
    return Position(
        curve=Curve(rules, weights),
        machine_usd=machine,
        ops_share=share,
        ops_usd=people,
        other_usd=bill.storage + bill.egress + bill.setup,
        replica_tokens=run.capacity_tokens_per_month,
        api_usd_per_token=api_usd_per_token,
        tokens=verdict.tokens_per_month,
    )


def plants(verdict: Verdict) -> tuple[Plant, ...]:
    """Return a version 2 verdict's runs as the solver takes them; InputError for an older one."""
    found = []
    for run in verdict.runs:
        if verdict.traffic is None or verdict.economics is None:
            raise InputError("a verdict of version 1 does not keep all inputs", remedy="solve it again")
        origin = run.origin
        # Without a capacity there is no figure that prices could turn.
        prompt = origin.prompt_tokens if origin else verdict.traffic.prompt_tokens
        output = origin.output_tokens if origin else verdict.traffic.output_tokens
        kind = origin.accelerator_kind if origin else (run.instance.kind if run.instance else "cuda")
        count = origin.accelerators if origin else 1
        found.append(Plant(run.run, run.scheme, run.validity, kind, count, prompt, output, origin))
    return tuple(found)


def demand(verdict: Verdict) -> Demand:
    """Return the demand that a verdict was solved for."""
    if verdict.traffic is None:
        return Demand()
    traffic = verdict.traffic
    return Demand(traffic.hourly_weights, traffic.profile_source, traffic.profile_badge)
