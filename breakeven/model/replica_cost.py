"""The price of a replica and the lines of a month's bill. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenhour.breakeven.model import owned_machine
from tokenhour.breakeven.model.plant import Plant
from tokenhour.breakeven.model.replica_curve import Curve
from tokenhour.contracts.config.economics import EconomicsSpec, OwnedSpec
from tokenhour.contracts.config.prices import InstancePrice
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.verdict import CostLines
from tokenhour.contracts.units import HOURS_PER_MONTH, SECONDS_PER_HOUR, TOKENS_PER_MTOK


@dataclass(frozen=True, slots=True)
class ReplicaPrice:
    """One replica: its price an hour, and what part of that is capital spent at once (owned machines only)."""

    usd_per_hour: float
    capital_usd: float = 0.0
    """Spent when it is bought."""
    running_usd_per_hour: float | None = None
    """Without the capital; the whole price for a rented one."""

    @property
    def cash_usd_per_hour(self) -> float:
        """What leaves the till every hour."""
        return self.usd_per_hour if self.running_usd_per_hour is None else self.running_usd_per_hour


def rented(hourly_usd: float, row: InstancePrice, plant: Plant) -> ReplicaPrice:
    """Return a replica's share of an instance: the accelerators that were measured, of those that it has.

    InputError when the instance is of another kind than what was measured, or has fewer accelerators.
    """
    _fits(plant, row.kind, row.accelerators, row.instance, "economics.hardware")
    return ReplicaPrice(hourly_usd * plant.accelerators / row.accelerators)


def bought(spec: OwnedSpec, electricity_usd_per_kwh: float, plant: Plant) -> ReplicaPrice:
    """Return a replica's share of a machine of one's own; its power is measured where the run has energy.

    InputError where nobody says how much power it takes.
    """
    _fits(plant, spec.kind, spec.accelerators, spec.name, "economics.owned")
    share = plant.accelerators / spec.accelerators
    measured_kw = plant.origin.power_kw if plant.origin else None
    machine_kw = measured_kw / share if measured_kw is not None else spec.power_kw
    if machine_kw is None:
        raise InputError(
            f"{plant.run} has no measured power", where="economics.owned.power_kw", remedy="give the machine's power in kW"
        )
    capital = owned_machine.capital_usd_per_hour(spec) * share
    running = owned_machine.running_usd_per_hour(spec, machine_kw, electricity_usd_per_kwh) * share
    return ReplicaPrice(capital + running, spec.capex_usd * share, running)


def _fits(plant: Plant, kind: str, accelerators: int, name: str, where: str) -> None:
    if kind != plant.kind:
        raise InputError(
            f"measured on {plant.kind}, but {name} is a {kind} instance",
            where=where,
            remedy="name an instance of the kind that was measured",
        )
    if accelerators < plant.accelerators:
        raise InputError(
            f"measured on {plant.accelerators} accelerators, {name} has {accelerators}",
            where=where,
            remedy="name a larger instance",
        )


def fixed_usd(spec: EconomicsSpec) -> float:
    """Return what a month costs whatever the volume."""
    people = spec.ops_usd_per_month + spec.engineering_usd_per_month
    return people + spec.storage_usd_per_month + spec.egress_usd_per_month + spec.setup_usd / spec.setup_months


def replica_usd_per_month(spec: EconomicsSpec, usd_per_hour: float) -> float:
    """Return a replica's month with the operations that grow with the machines."""
    return usd_per_hour * HOURS_PER_MONTH * (1 + spec.ops_share)


def lines(spec: EconomicsSpec, curve: Curve, usd_per_hour: float, u: float) -> CostLines:
    """Split the bill of a volume u (in replicas' capacities); idle time is its own line."""
    machine = usd_per_hour * HOURS_PER_MONTH
    gpu = machine * float(curve.replica_months(np.array([u]))[0])
    busy = machine * u
    spare = min(machine * curve.rules.redundancy, gpu - busy)
    ops = spec.ops_usd_per_month + spec.ops_share * gpu
    rest = (spec.engineering_usd_per_month, spec.storage_usd_per_month, spec.egress_usd_per_month)
    setup = spec.setup_usd / spec.setup_months
    return CostLines(
        gpu_busy=busy,
        gpu_idle=max(0.0, gpu - busy - spare),
        redundancy=spare,
        ops=ops,
        engineering=rest[0],
        storage=rest[1],
        egress=rest[2],
        setup=setup,
        total=gpu + ops + sum(rest) + setup,
    )


def token_cost(
    usd_per_hour: float, output_tps: float, input_tps: float = 0.0, price_ratio: float = 4.0
) -> tuple[float, float]:
    """Return (input, output) USD per million tokens of a machine: $/s / (T_in / r + T_out), input = output / r.

    With no input it is the cost per million output tokens (arXiv 2606.11690). InputError for zero rates or a bad ratio.
    """
    for name, value in (("output_tps", output_tps), ("price_ratio", price_ratio)):
        if not 0 < value < float("inf"):
            raise InputError(f"{value} cannot be", where=name, remedy="give a number above 0")
    for name, value in (("usd_per_hour", usd_per_hour), ("input_tps", input_tps)):
        if not 0 <= value < float("inf"):
            raise InputError(f"{value} cannot be", where=name, remedy="give a number of at least 0")
    output = usd_per_hour / SECONDS_PER_HOUR / (input_tps / price_ratio + output_tps) * TOKENS_PER_MTOK
    return output / price_ratio, output


def competitive_utilization(usage_usd: float, api_usd: float) -> float | None:
    """Return the utilization at which allocation cost equals the API's price (OpenCost: usage 1, API 2: 50 %)."""
    return usage_usd / api_usd if api_usd > 0 else None
