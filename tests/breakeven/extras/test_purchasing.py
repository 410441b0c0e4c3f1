"""Spot and reservations of a scenario's fleet."""

import pytest

from tests.breakeven.scenarios import COMMIT, DAY, SPOT, decide, scenario
from tokenhour.contracts.errors import InputError


def test_spot_uses_the_rows_discount_and_todays_fleet() -> None:
    """Spot is judged by the table's discount and the planned fleet; a table without a spot price is named."""
    found = decide(scenario(tokens_per_month=10e9, spot=SPOT)).spot
    assert found.discount == pytest.approx(1 - 0.80 / 2.29)
    assert found.overhead == pytest.approx(0.05 * (0.5 + 0.2) + 0.02)
    assert found.price_ratio == pytest.approx((1 - found.discount) / (1 - found.overhead))
    assert (found.on_demand_replicas, found.serving_replicas) == (6, 7)
    with pytest.raises(InputError, match="spot price") as caught:
        decide(scenario(cloud="lambda", hardware="H100_8x", spot=SPOT))
    assert "economics.spot.discount" in caught.value.where


def test_commitments_reserve_what_is_used_most() -> None:
    """Only replicas that are busy often enough are reserved, so the plan beats all on demand."""
    found = decide(scenario(tokens_per_month=50e9, profile={"hours": DAY}, commitments=COMMIT)).commitments
    (verda,) = found.reservations
    assert 0 < verda.reserved_replicas < found.demand_peak_replicas
    assert found.usd_per_month < found.all_on_demand_usd_per_month
    assert found.break_even_utilization == pytest.approx((1.5 / 2.29,))
    given = decide(scenario(commitments={**COMMIT, "replicas": [1, 1, 1, 5]})).commitments
    assert given.reservations[0].reserved_replicas == 1
