"""One run with everything that its comparisons share: price, traffic, capacity, fleet, draws. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tokenhour.breakeven.inputs import traffic as today
from tokenhour.breakeven.inputs.capacity import Capacity, capacity
from tokenhour.breakeven.inputs.problem import Question
from tokenhour.breakeven.model import replica_cost, uncertainty
from tokenhour.breakeven.model.cost_point import Position
from tokenhour.breakeven.model.plant import Plant
from tokenhour.breakeven.model.replica_curve import Curve, Floats
from tokenhour.breakeven.prices.tables import hourly_usd
from tokenhour.contracts.config.prices import InstancePrice
from tokenhour.contracts.records.verdict import TrafficToday
from tokenhour.contracts.units import HOURS_PER_MONTH


@dataclass(frozen=True, slots=True)
class Business:
    """One run with everything that its comparisons share."""

    question: Question
    plant: Plant
    row: InstancePrice | None
    replica: replica_cost.ReplicaPrice
    traffic: TrafficToday
    capacity: Capacity
    curve: Curve
    ends: Mapping[str, tuple[float, float]]
    drawn: Mapping[str, Floats]

    @property
    def u(self) -> float:
        """Today's volume in capacities of a replica."""
        return self.traffic.tokens_per_month / self.capacity.tokens.value

    def position(self, api_usd_per_token: float) -> Position:
        """Return the run beside an API's price."""
        spec = self.question.economics
        people = spec.ops_usd_per_month + spec.engineering_usd_per_month
        return Position(
            curve=self.curve,
            machine_usd=self.replica.usd_per_hour * HOURS_PER_MONTH,
            ops_share=spec.ops_share,
            ops_usd=people,
            other_usd=replica_cost.fixed_usd(spec) - people,
            replica_tokens=self.capacity.tokens.value,
            api_usd_per_token=api_usd_per_token,
            tokens=self.traffic.tokens_per_month,
        )


def business(question: Question, plant: Plant, row: InstancePrice | None) -> Business | None:
    """Work out what a run's comparisons share; None when no tested rate met the SLO."""
    replica = replica_of(question, plant, row)
    if plant.origin is None:
        return None
    spec = question.economics
    traffic = today.traffic(spec, question.demand, plant)
    found = capacity(plant.origin, spec, traffic.prompt_tokens, traffic.output_tokens)
    curve = Curve(question.rules(plant), question.demand.array())
    ends = uncertainty.spreads(spec, found.tokens, plant.origin.badge)
    drawn = uncertainty.draw(ends, spec.uncertainty.draws, spec.uncertainty.seed)
    return Business(question, plant, row, replica, traffic, found, curve, ends, drawn)


def replica_of(question: Question, plant: Plant, row: InstancePrice | None) -> replica_cost.ReplicaPrice:
    """Return what one replica costs, rented or owned."""
    spec = question.economics
    if row is not None:
        return replica_cost.rented(hourly_usd(row, spec.purchase, spec.rates), row, plant)
    if spec.owned is None:
        raise AssertionError
    return replica_cost.bought(spec.owned, spec.electricity_usd_per_kwh, plant)
