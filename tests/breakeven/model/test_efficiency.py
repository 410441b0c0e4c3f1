"""Value over spend."""

import pytest

from tokenhour.breakeven.model.efficiency import efficiency, ratio
from tokenhour.contracts.config.economics_extras import EfficiencySpec


def test_value_over_spend_is_a_multiple() -> None:
    """economics.md, Efficiency: 0.95/0.20 is 4.75x."""
    assert ratio(0.95, 0.20) == pytest.approx(4.75)
    assert ratio(1.0, 0.0) is None
    found = efficiency(EfficiencySpec(unit="ticket", value_usd_per_unit=0.95, units_per_request=0.5), 1000, 100.0, 200.0)
    assert (found.units_per_month, found.value_usd_per_month) == (500, 475)
    assert (found.api_ratio, found.self_host_ratio, found.api_usd_per_unit) == pytest.approx((4.75, 2.375, 0.2))
