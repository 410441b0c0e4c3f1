"""The months ahead against adding them up by hand."""

import datetime as dt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.breakeven.model.test_uncertainty import ENDS
from tests.breakeven.positions import position
from tokenhour.breakeven.model.projection import Path, drift, month_date, payback_month, project
from tokenhour.breakeven.model.uncertainty import draw

STILL = draw(dict.fromkeys(ENDS, (1.0, 1.0)), 10, 0)


def path(months: int = 36, **changes: Any) -> Path:
    """Return a horizon without growth, drift, discount or set-up cost, with some fields changed."""
    fields = {
        "growth_per_year": 0.0,
        "discount_rate_per_year": 0.0,
        "api_factor": np.ones(months),
        "gpu_factor": np.ones(months),
        "setup_usd": 0.0,
        "amortised_setup_usd": 0.0,
        "capital_usd": 0.0,
        "cash_share": 1.0,
    }
    return Path(**{**fields, **changes})


@settings(max_examples=50, deadline=None)
@given(st.floats(-0.5, 1.0), st.floats(-0.3, 0.5), st.floats(-0.3, 0.6), st.floats(-0.2, 0.6), st.floats(0, 20_000))
def test_growth_drifts_and_discount_compound_as_by_hand(
    growth: float, discount: float, decay: float, gpu: float, setup: float
) -> None:
    """Each month's tokens, bills and cumulative saving match compounding them by hand."""
    at = position(ops_usd=100, other_usd=setup / 36)
    found = project(
        at,
        path(
            growth_per_year=growth,
            discount_rate_per_year=discount,
            api_factor=drift(-decay, 36),
            gpu_factor=drift(gpu, 36),
            setup_usd=setup,
            amortised_setup_usd=setup / 36,
        ),
        STILL,
    )
    total = -setup
    for month in found.months:
        years = (month.month - 1) / 12
        tokens = 2.5e9 * (1 + growth) ** years
        api = 1.3e-6 * (1 - decay) ** years * tokens
        own = 100 + 1000 * (1 + gpu) ** years * np.ceil(tokens / 1e9)
        total += (api - own) / (1 + discount) ** (month.month / 12)
        assert (month.tokens, month.api_usd) == pytest.approx((tokens, api))
        if abs(tokens / 1e9 - round(tokens / 1e9)) > 1e-9:
            assert month.self_host_usd == pytest.approx(own)
            assert month.cumulative_saving_usd == pytest.approx(total, abs=1e-6)
        else:
            return
    assert found.npv_usd == found.months[-1].cumulative_saving_usd


def test_payback_is_the_first_month_that_covers_the_setup() -> None:
    """A saving of $250 a month against $1,000: covered above zero in the fifth month."""
    at = position()
    found = project(at, path(setup_usd=1000.0), STILL)
    assert at.api_usd_per_token * at.tokens - at.self_host_usd(at.tokens) == pytest.approx(250)
    assert found.payback_month == 5
    assert found.reverts_month is None
    assert payback_month([-5.0, 0.0, 1.0]) == 3


def test_a_payback_that_does_not_last_says_so() -> None:
    """The API falls to a tenth after a year: what was saved is eaten up again."""
    falls = np.where(np.arange(36) < 12, 1.0, 0.1)
    found = project(position(), path(setup_usd=1000.0, api_factor=falls), STILL)
    assert found.payback_month == 5
    assert found.reverts_month == 13
    assert found.crossings_months == (13,)


def test_capital_is_spent_when_a_machine_is_bought() -> None:
    """Two replicas at once, the third when growth needs it; a bought machine's price is left out of the month."""
    at = position(tokens=1.9e9)
    found = project(at, path(months=24, growth_per_year=0.2, capital_usd=5000.0, cash_share=0.1), STILL)
    months = found.months
    api, own = months[0].api_usd, months[0].self_host_usd
    assert own == pytest.approx(2 * 100)
    assert months[0].cumulative_saving_usd == pytest.approx(api - own - 2 * 5000)
    third = next(m.month for m in months if m.replicas == 3)
    step = months[third - 1].cumulative_saving_usd - months[third - 2].cumulative_saving_usd
    assert step == pytest.approx(months[third - 1].api_usd - 300 - 5000)


def test_bands_hold_the_middle_and_widen() -> None:
    """The uncertainty bands contain the median and widen over time, as later months are less certain."""
    drawn = draw(ENDS, 500, 0)
    months = project(position(), path(), drawn).months
    assert all(m.cumulative_p10_usd <= m.cumulative_p50_usd <= m.cumulative_p90_usd for m in months)
    widths = [m.cumulative_p90_usd - m.cumulative_p10_usd for m in months]
    assert widths[-1] > widths[0]


def test_dates_stay_within_their_month() -> None:
    """A month's date never spills into the next month, even when that month is shorter."""
    assert month_date(dt.date(2026, 11, 30), 3) == dt.date(2027, 2, 28)
    assert month_date(dt.date(2026, 11, 24), 0) == dt.date(2026, 11, 24)
    assert month_date(dt.date(2026, 11, 24), 2) == dt.date(2027, 1, 24)
