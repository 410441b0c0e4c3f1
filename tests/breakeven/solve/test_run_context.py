"""What one replica costs, where it is owned."""

import pytest

from tests.breakeven.scenarios import MONTH, decide, scenario


def test_an_owned_machine_costs_its_annuity_power_and_room() -> None:
    """An owned machine costs its purchase spread over its life plus power, space and maintenance."""
    owned = {
        "capex_usd": 240_000,
        "accelerators": 8,
        "life_years": 4,
        "interest_rate_per_year": 0.0,
        "power_kw": 8.0,
        "pue": 1.25,
        "colocation_usd_per_month": 730,
        "maintenance_usd_per_year": 8760,
    }
    found = decide(scenario(purchase="owned", owned=owned, hardware=None, electricity_usd_per_kwh=0.2)).runs[0]
    assert found.instance is None
    assert found.replica_usd_per_hour == pytest.approx((240_000 / 4 / 8760 + 8 * 1.25 * 0.2 + 1 + 1) / 8)
    first = found.comparisons[1].projection.months[0]
    # The machine is paid at once: three replicas' share of the purchase.
    assert first.cumulative_saving_usd < -3 * 240_000 / 8 + first.api_usd
    assert first.self_host_usd == pytest.approx(3 * (8 * 1.25 * 0.2 + 2) / 8 * MONTH)
