"""Training against inference, against adding up months, and the published table with its two wrong rows."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenhour.breakeven.extras.training import crossover, inference_share, inference_usd, training_usd
from tokenhour.contracts.config.economics_extras import TrainingSpec


def training(**changes: Any) -> TrainingSpec:
    """Return a round training budget with some fields changed."""
    fields = {"training_usd": 1000, "requests_per_month": 1e6, "usd_per_million_requests": 100}
    return TrainingSpec.model_validate({**fields, **changes})


@given(st.floats(-0.3, 0.5), st.integers(1, 60), st.floats(1, 1e7), st.floats(1, 1000))
def test_cumulative_inference_is_the_sum_of_its_months(growth: float, months: int, requests: float, usd: float) -> None:
    """Total inference cost equals the sum of its growing months, so the closed form can be trusted."""
    spec = training(growth_per_month=growth, requests_per_month=requests, usd_per_million_requests=usd)
    total = sum(requests * (1 + growth) ** k * usd / 1e6 for k in range(months))
    assert inference_usd(spec, months) == pytest.approx(total, rel=1e-6)


def test_retraining_is_paid_again_when_its_month_comes() -> None:
    """Each retraining adds its cost from its month on."""
    spec = training(retrain_every_months=6, retrain_usd=300)
    assert [training_usd(spec, m) for m in (1, 6, 7, 12, 13)] == [1000, 1000, 1300, 1300, 1600]


def test_the_crossover_is_the_first_month_whose_sum_is_larger() -> None:
    """The crossover names the first month in which inference has cost more than training, or none."""
    assert crossover(training()).crossover_month == 11
    assert crossover(training(usd_per_million_requests=0.001)).crossover_month is None
    found = crossover(training())
    assert 11 in [m.month for m in found.months]


@pytest.mark.parametrize(
    ("month", "multiples", "published", "true"),
    [(1, (1.0, 0.05), 5, 4.8), (6, (1.4, 1.8), 56, 56.25), (12, (1.4, 4.5), 71, 76.3), (24, (1.8, 14.0), 86, 88.6)],
)
def test_the_published_table_follows_its_multiples_in_two_rows_only(
    month: int, multiples: tuple[float, ...], published: int, true: float
) -> None:
    """economics.md, Training against inference: months 12 and 24 of the table are wrong; its multiples give ours."""
    share = 100 * inference_share(*multiples)
    assert share == pytest.approx(true, abs=0.05)
    assert (abs(share - published) < 0.5) == (month in {1, 6})
