"""Published cases, each with its source, and laws of the bill."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenhour.breakeven.model.crossings_closed_form import Staircase, solve
from tokenhour.breakeven.model.replica_cost import (
    competitive_utilization,
    fixed_usd,
    lines,
    replica_usd_per_month,
    token_cost,
)
from tokenhour.breakeven.model.replica_curve import Curve, Rules
from tokenhour.contracts.config.economics import EconomicsSpec
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.units import HOURS_PER_MONTH


def economics(**fields: Any) -> EconomicsSpec:
    """Return a minimal economics section with some fields set."""
    return EconomicsSpec.model_validate({"hardware": "c7i.large", "apis": [{"model": "m", "host": "h"}], **fields})


def curve(**rules: Any) -> Curve:
    """Return the replica curve of flat demand under these rules."""
    return Curve(Rules(**rules), np.ones(1))


@pytest.mark.parametrize(
    ("source", "usd_per_hour", "output_tps", "expected"),
    [
        ("arXiv 2606.11690, 8B FP16 on one H100", 6.98, 2464.4, 0.7867),
        ("GMI, cost of a token", 2.60, 140.0, 5.16),
    ],
)
def test_cost_per_million_output_tokens_agrees_with(
    source: str, usd_per_hour: float, output_tps: float, expected: float
) -> None:
    """The cost of a million output tokens reproduces the published figures of these sources."""
    assert token_cost(usd_per_hour, output_tps)[1] == pytest.approx(expected, rel=5e-4), source


def test_four_gpus_for_a_month_cost_what_llm_d_planner_says() -> None:
    """llm-d-planner: 4 x $2.70 x 730 h = $7,884."""
    assert lines(economics(), curve(), 4 * 2.70, 1.0).total == pytest.approx(7884)


def test_usage_and_allocation_cost_give_opencosts_utilization() -> None:
    """OpenCost blog: usage cost $1, allocation cost $4, API $2 per M: utilization 25 %, competitive at 50 %."""
    bill = lines(economics(), curve(), 4.0 / HOURS_PER_MONTH, 0.25)
    assert bill.gpu_busy == pytest.approx(1.0)
    assert bill.gpu_busy / bill.total == pytest.approx(0.25)
    assert competitive_utilization(bill.gpu_busy, 2.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("prices", "bare", "loaded"),
    [((1, 5), 0.25e9, 2.2e9), ((0.15, 0.60), 1.96e9, 17e9), ((0.02, 0.04), 22e9, 191e9)],
)
def test_one_l4_breaks_even_where_the_design_says(
    prices: tuple[float, ...] | tuple[int, ...], bare: float, loaded: float
) -> None:
    """economics.md, What was found in the field: one L4 at $0.805/h, 2:1, GPU only, capacity ignored; and fully loaded."""
    price = (2 * prices[0] + prices[1]) / 3 / 1e6
    assert 0.805 * HOURS_PER_MONTH / price == pytest.approx(bare, rel=0.02)
    spec = economics(ops_share=0.15, engineering_usd_per_month=3750, redundancy=1)
    gamma = replica_usd_per_month(spec, 0.805)
    assert solve(Staircase(gamma, 1e15, fixed_usd(spec), 1), price).first_tokens == pytest.approx(loaded, rel=0.02)


def test_the_common_claim_is_a_percent_of_one_h100() -> None:
    """economics.md: 100-500M tokens a month at 512/256 are 0.05-0.25 requests/s."""
    seconds = HOURS_PER_MONTH * 3600
    assert [100e6 / 768 / seconds, 500e6 / 768 / seconds] == pytest.approx([0.05, 0.25], rel=0.02)


@given(st.floats(0.01, 100), st.floats(1, 1e5), st.floats(0, 1e5), st.floats(0.5, 10))
def test_input_and_output_prices_pay_for_the_hour(usd: float, out_tps: float, in_tps: float, ratio: float) -> None:
    """Input and output prices together recover the machine's hourly cost, in the stated ratio."""
    into, out = token_cost(usd, out_tps, in_tps, ratio)
    assert (into * in_tps + out * out_tps) * 3600 / 1e6 == pytest.approx(usd)
    assert out == pytest.approx(ratio * into)


@given(
    st.floats(0, 500),
    st.integers(0, 3),
    st.integers(0, 5),
    st.floats(0, 1e4),
    st.floats(0, 1e4),
    st.floats(0, 1),
    st.booleans(),
)
def test_the_lines_of_a_bill_add_up_to_its_total(
    u: float, spare: int, least: int, ops: float, setup: float, share: float, follows: bool
) -> None:
    """The lines of the monthly bill sum to its total, and none of them is negative."""
    spec = economics(ops_usd_per_month=ops, setup_usd=setup, ops_share=share)
    day = np.array([0.5, 1.0, 2.0, 0.5])
    fleet = Curve(Rules(spare, least, autoscale=follows, cold_start_s=600), day)
    bill = lines(spec, fleet, 2.0, u)
    parts = [getattr(bill, name) for name in type(bill).model_fields if name != "total"]
    assert sum(parts) == pytest.approx(bill.total)
    assert min(parts) >= -1e-9 * bill.total


def test_no_volume_costs_only_the_fixed_part() -> None:
    """The people, the disks and the spares stand still; nothing serves."""
    spec = economics(ops_usd_per_month=100, engineering_usd_per_month=50, storage_usd_per_month=7, setup_usd=360)
    assert lines(spec, curve(), 2.0, 0.0).total == pytest.approx(fixed_usd(spec)) == 100 + 50 + 7 + 10
    spared = lines(spec, curve(redundancy=1), 2.0, 0.0)
    assert spared.total == pytest.approx(fixed_usd(spec) + 2.0 * HOURS_PER_MONTH)
    assert (spared.gpu_busy, spared.gpu_idle) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [((1, 0), "output_tps"), ((1, 5, 1, 0), "price_ratio"), ((-1, 5), "usd_per_hour"), ((math.nan, 5), "usd_per_hour")],
)
def test_figures_that_cannot_be_are_refused(arguments: tuple[float, ...], field: str) -> None:
    """Impossible prices and rates are rejected with the name of the field."""
    with pytest.raises(InputError) as caught:
        token_cost(*arguments)
    assert field in caught.value.where
