"""An hour of a machine of one's own: annuity, electricity, room and upkeep. Pure."""

from __future__ import annotations

import math

from tokenhour.contracts.config.economics import OwnedSpec
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.units import HOURS_PER_MONTH, HOURS_PER_YEAR

J_PER_KWH = 3.6e6


def capital_recovery(rate: float, years: float) -> float:
    """Return the yearly payment that pays back 1 over `years` at `rate`: r (1+r)^n / ((1+r)^n - 1), 1/n at no interest."""
    _check(rate, years)
    # expm1 and log1p keep every digit where the rate is next to nothing.
    return -rate / math.expm1(-years * math.log1p(rate)) if rate else 1 / years


def sinking_fund(rate: float, years: float) -> float:
    """Return the yearly deposit that grows to 1 after `years` at `rate`: r / ((1+r)^n - 1), 1/n at no interest."""
    _check(rate, years)
    return rate / math.expm1(years * math.log1p(rate)) if rate else 1 / years


def _check(rate: float, years: float) -> None:
    if not rate > -1:
        raise InputError(f"a rate of {rate:.0%} a year leaves nothing", where="rate", remedy="give a rate above -100 %")
    if not years > 0:
        raise InputError(f"a life of {years} years cannot be", where="life_years", remedy="give more than 0")


def capital_usd_per_hour(spec: OwnedSpec) -> float:
    """Return what the purchase itself costs an hour, [capex CRF(r, n) - residual sinking fund] / 8760."""
    rate, years = spec.interest_rate_per_year, spec.life_years
    year = spec.capex_usd * capital_recovery(rate, years) - spec.residual_usd * sinking_fund(rate, years)
    return year / HOURS_PER_YEAR


def running_usd_per_hour(spec: OwnedSpec, power_kw: float, usd_per_kwh: float) -> float:
    """Return electricity, colocation and maintenance an hour."""
    room = spec.colocation_usd_per_month / HOURS_PER_MONTH + spec.maintenance_usd_per_year / HOURS_PER_YEAR
    return power_kw * spec.pue * usd_per_kwh + room


def usd_per_hour(spec: OwnedSpec, power_kw: float, usd_per_kwh: float) -> float:
    """Return the whole hour of one machine."""
    return capital_usd_per_hour(spec) + running_usd_per_hour(spec, power_kw, usd_per_kwh)


def energy_usd_per_mtok(energy_j_per_token: float, usd_per_kwh: float) -> float:
    """Return the electricity of a million tokens."""
    return energy_j_per_token * 1e6 / J_PER_KWH * usd_per_kwh
