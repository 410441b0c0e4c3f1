"""Published cases, each with its source, and laws of the bill."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breakeven.cost import lines, staircase, token_cost
from contracts.economics_spec import EconomicsSpec
from contracts.errors import InputError
from contracts.units import HOURS_PER_MONTH


def economics(**fields):
    return EconomicsSpec(hardware="c7i.large", apis=({"model": "m", "host": "h"},), **fields)


@pytest.mark.parametrize(
    ("source", "usd_per_hour", "output_tps", "expected"),
    [
        ("arXiv 2606.11690, 8B FP16 on one H100", 6.98, 2464.4, 0.7867),
        ("GMI, cost of a token", 2.60, 140.0, 5.16),
    ],
)
def test_cost_per_million_output_tokens_agrees_with(source, usd_per_hour, output_tps, expected):
    assert token_cost(usd_per_hour, output_tps)[1] == pytest.approx(expected, rel=5e-4), source


def test_four_gpus_for_a_month_cost_what_llm_d_planner_says():
    """llm-d-planner: 4 x $2.70 x 730 h = $7,884."""
    stairs = staircase(economics(), 4 * 2.70, 1e9)
    assert stairs.cost_usd(1e9) == pytest.approx(7884)


def test_usage_and_allocation_cost_give_opencosts_utilization():
    """OpenCost blog: usage cost $1 and allocation cost $4 are a utilization of 25 %."""
    spec = economics(tokens_per_month=0.25e9)
    bill = lines(spec, staircase(spec, 4.0 / HOURS_PER_MONTH, 1e9))
    assert bill.gpu_busy == pytest.approx(1.0)
    assert bill.gpu_busy / bill.total == pytest.approx(0.25)


@given(st.floats(0.01, 100), st.floats(1, 1e5), st.floats(0, 1e5), st.floats(0.5, 10))
def test_input_and_output_prices_pay_for_the_hour(usd, out_tps, in_tps, ratio):
    into, out = token_cost(usd, out_tps, in_tps, ratio)
    assert (into * in_tps + out * out_tps) * 3600 / 1e6 == pytest.approx(usd)
    assert out == pytest.approx(ratio * into)


@given(st.floats(1e6, 1e12), st.floats(1e6, 1e11), st.integers(0, 3), st.floats(0, 1e4), st.floats(0, 1e4))
def test_the_lines_of_a_bill_add_up_to_its_total(volume, capacity, spare, ops, setup):
    spec = economics(tokens_per_month=volume, redundancy=spare, ops_usd_per_month=ops, setup_usd=setup)
    bill = lines(spec, staircase(spec, 2.0, capacity))
    parts = (
        bill.gpu_busy,
        bill.gpu_idle,
        bill.redundancy,
        bill.ops,
        bill.engineering,
        bill.storage,
        bill.egress,
        bill.setup,
    )
    assert sum(parts) == pytest.approx(bill.total)
    assert bill.gpu_idle >= -1e-9 * bill.total


@pytest.mark.parametrize(
    ("arguments", "field"), [((1, 0), "output_tps"), ((1, 5, 1, 0), "price_ratio"), ((-1, 5), "usd_per_hour")]
)
def test_figures_that_cannot_be_are_refused(arguments, field):
    with pytest.raises(InputError) as caught:
        token_cost(*arguments)
    assert field in caught.value.where
