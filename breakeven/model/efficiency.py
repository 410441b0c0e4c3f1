"""Value for money. Pure."""

from __future__ import annotations

from tokenhour.contracts.config.economics_extras import EfficiencySpec
from tokenhour.contracts.records.verdict_extras import Efficiency


def ratio(value_usd: float, spend_usd: float) -> float | None:
    """Return value over spend: 0.95 over 0.20 is 4.75. None where nothing is spent."""
    return value_usd / spend_usd if spend_usd > 0 else None


def efficiency(spec: EfficiencySpec, requests_per_month: float, api_usd: float, own_usd: float) -> Efficiency:
    """Set the month's value against both bills."""
    units = spec.units_per_request * requests_per_month
    value = units * spec.value_usd_per_unit
    return Efficiency(
        unit=spec.unit,
        units_per_month=units,
        value_usd_per_month=value,
        api_ratio=ratio(value, api_usd),
        self_host_ratio=ratio(value, own_usd),
        api_usd_per_unit=api_usd / units if units else None,
        self_host_usd_per_unit=own_usd / units if units else None,
    )
