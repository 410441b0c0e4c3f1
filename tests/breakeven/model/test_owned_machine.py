"""Annuities against paying month by month, and the published cases of buying."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenhour.breakeven.model.owned_machine import (
    capital_recovery,
    capital_usd_per_hour,
    energy_usd_per_mtok,
    running_usd_per_hour,
    sinking_fund,
    usd_per_hour,
)
from tokenhour.contracts.config.economics import OwnedSpec
from tokenhour.contracts.errors import InputError

RATE = st.floats(-0.5, 1.0)
YEARS = st.integers(1, 30)


@given(RATE, YEARS)
def test_the_yearly_payment_pays_the_loan_back_exactly(rate: float, years: int) -> None:
    """Brute force: a debt of 1 grows by the rate every year and is paid down; nothing is left."""
    debt = 1.0
    for _ in range(years):
        debt = debt * (1 + rate) - capital_recovery(rate, years)
    assert debt == pytest.approx(0, abs=1e-6 * max(1.0, (1 + rate) ** years))


@given(RATE, YEARS)
def test_the_yearly_deposit_grows_to_the_residual(rate: float, years: int) -> None:
    """Yearly deposits with interest add up to the residual value, which is credited against the purchase."""
    saved = 0.0
    for _ in range(years):
        saved = saved * (1 + rate) + sinking_fund(rate, years)
    assert saved == pytest.approx(1.0, rel=1e-6)


@given(YEARS)
def test_without_interest_it_is_a_straight_line(years: int) -> None:
    """At zero interest the purchase is spread evenly over its years, and nearby rates give nearby results."""
    assert capital_recovery(0.0, years) == pytest.approx(1 / years)
    assert capital_recovery(1e-9, years) == pytest.approx(1 / years, rel=1e-5)


def test_a_server_year_costs_what_the_nvidia_tco_blog_says() -> None:
    """NVIDIA TCO blog: $320k over 4 years + $3,000 + $4,500 = $87,500 a server-year."""
    spec = OwnedSpec(
        capex_usd=320_000,
        life_years=4,
        interest_rate_per_year=0,
        colocation_usd_per_month=250,
        maintenance_usd_per_year=4500,
    )
    assert usd_per_hour(spec, 0.0, 0.0) * 8760 == pytest.approx(87_500)


def test_an_hour_adds_capital_power_room_and_upkeep() -> None:
    """An hour of an owned machine includes capital, electricity with cooling, colocation and maintenance."""
    spec = OwnedSpec(
        capex_usd=30_000,
        residual_usd=3_000,
        life_years=3,
        interest_rate_per_year=0.1,
        pue=1.5,
        colocation_usd_per_month=73,
        maintenance_usd_per_year=876,
    )
    capital = (30_000 * capital_recovery(0.1, 3) - 3_000 * sinking_fund(0.1, 3)) / 8760
    assert capital_usd_per_hour(spec) == pytest.approx(capital)
    assert running_usd_per_hour(spec, 0.7, 0.2) == pytest.approx(0.7 * 1.5 * 0.2 + 0.1 + 0.1)
    assert usd_per_hour(spec, 0.7, 0.2) == pytest.approx(capital + 0.21 + 0.2)


def test_energy_of_a_million_tokens() -> None:
    """3.6 J a token is 1 kWh a million."""
    assert energy_usd_per_mtok(3.6, 0.15) == pytest.approx(0.15)


@pytest.mark.parametrize(("rate", "years", "field"), [(-1.0, 3, "rate"), (math.nan, 3, "rate"), (0.1, 0, "life_years")])
def test_figures_that_cannot_be_are_refused(rate: float, years: int, field: str) -> None:
    """Impossible interest rates and lifetimes are rejected with the name of the field."""
    with pytest.raises(InputError) as caught:
        capital_recovery(rate, years)
    assert caught.value.where == field
