"""Capacity and the lines of a month's bill. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from breakeven.crossings import Staircase
from contracts.economics_spec import EconomicsSpec
from contracts.errors import InputError
from contracts.price import InstancePrice
from contracts.record import Interval
from contracts.run import Summary
from contracts.units import HOURS_PER_MONTH, SECONDS_PER_HOUR, TOKENS_PER_MTOK
from contracts.verdict import CostLines


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one replica can serve in a month at the SLO, after headroom; tokens are input plus output."""

    tokens: Interval
    input_share: float
    input_tps: float
    output_tps: float
    """Planned rates of one replica."""


def capacity(summary: Summary, headroom: float) -> Capacity | None:
    """Return lambda* x h over a 730-hour month; None when no tested rate met the SLO.

    The interval adds the half-widths of input and output: they rise and fall together with the requests.
    """
    if summary.at_slo is None:
        return None
    taken, given = summary.at_slo.input_tokens_per_hour, summary.at_slo.output_tokens_per_hour
    accelerators = summary.accelerator.count
    scale = headroom * HOURS_PER_MONTH * accelerators
    value = (taken.value + given.value) * scale
    low = ((taken.low or taken.value) + (given.low or given.value)) * scale
    high = ((taken.high or taken.value) + (given.high or given.value)) * scale
    hourly = headroom * accelerators / SECONDS_PER_HOUR
    return Capacity(
        Interval(value=value, low=low, high=high),
        taken.value / (taken.value + given.value),
        taken.value * hourly,
        given.value * hourly,
    )


def replica_usd_per_hour(hourly_usd: float, row: InstancePrice, summary: Summary) -> float:
    """Return the hourly cost of the accelerators that were measured: the instance's price, shared when it has more.

    InputError when the instance is of another kind than what was measured, or has fewer accelerators.
    """
    if row.kind != summary.accelerator.kind:
        raise InputError(
            f"measured on {summary.accelerator.kind}, but {row.instance} is a {row.kind} instance",
            where="economics.hardware",
            remedy="name an instance of the kind that was measured",
        )
    if row.accelerators < summary.accelerator.count:
        raise InputError(
            f"measured on {summary.accelerator.count} accelerators, {row.instance} has {row.accelerators}",
            where="economics.hardware",
            remedy="name a larger instance",
        )
    return hourly_usd * summary.accelerator.count / row.accelerators


def fixed_usd(spec: EconomicsSpec) -> float:
    """Return what a month costs whatever the volume."""
    people = spec.ops_usd_per_month + spec.engineering_usd_per_month
    return people + spec.storage_usd_per_month + spec.egress_usd_per_month + spec.setup_usd / spec.setup_months


def staircase(spec: EconomicsSpec, usd_per_hour: float, replica_tokens: float) -> Staircase:
    """Return the month's cost as a staircase over volume."""
    return Staircase(usd_per_hour * HOURS_PER_MONTH, replica_tokens, fixed_usd(spec), spec.redundancy)


def lines(spec: EconomicsSpec, stairs: Staircase) -> CostLines:
    """Split the bill at today's volume; idle time is its own line."""
    replicas = stairs.replicas(spec.tokens_per_month)
    busy = spec.tokens_per_month / stairs.replica_tokens * stairs.replica_usd
    return CostLines(
        gpu_busy=busy,
        gpu_idle=replicas * stairs.replica_usd - busy,
        redundancy=stairs.redundancy * stairs.replica_usd,
        ops=spec.ops_usd_per_month,
        engineering=spec.engineering_usd_per_month,
        storage=spec.storage_usd_per_month,
        egress=spec.egress_usd_per_month,
        setup=spec.setup_usd / spec.setup_months,
        total=stairs.cost_usd(spec.tokens_per_month),
    )


def token_cost(
    usd_per_hour: float, output_tps: float, input_tps: float = 0.0, price_ratio: float = 4.0
) -> tuple[float, float]:
    """Return (input, output) USD per million tokens of a machine: $/s / (T_in / r + T_out), input = output / r.

    With no input it is the cost per million output tokens (arXiv 2606.11690). InputError for zero rates or a bad ratio.
    """
    for name, value in (("output_tps", output_tps), ("price_ratio", price_ratio)):
        if value <= 0:
            raise InputError(f"{value} cannot be", where=name, remedy="give a number above 0")
    if usd_per_hour < 0 or input_tps < 0:
        raise InputError("a price and a rate cannot be negative", where="usd_per_hour, input_tps", remedy="give 0 or more")
    output = usd_per_hour / SECONDS_PER_HOUR / (input_tps / price_ratio + output_tps) * TOKENS_PER_MTOK
    return output / price_ratio, output
