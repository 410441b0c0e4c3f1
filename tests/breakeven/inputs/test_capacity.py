"""What a replica serves: at another mix, and beside the rates that were tested."""

import pytest

from tests.breakeven.scenarios import MONTH, decide, scenario
from tests.breakeven.summaries import point, summary
from tokenhour.breakeven.inputs.capacity import above, below, capacity, measured
from tokenhour.contracts.config.economics import EconomicsSpec

SPEC = EconomicsSpec.model_validate({"hardware": "x", "apis": [{"model": "a", "host": "b"}]})


def test_another_mix_is_worked_out_and_marked_extrapolated() -> None:
    """An input token is a quarter of an output token's work: 2M/4 + 1M = 1.5M units an hour; 1000/4 + 50 a request."""
    run_ = decide(scenario(prompt_tokens=1000, output_tokens=50)).runs[0]
    assert run_.capacity_tokens_per_month == pytest.approx(1.5e6 / 300 * 1050 * 0.8 * MONTH)
    assert len(run_.extrapolated) == 2
    assert any("extrapolated" in w for w in decide(scenario(prompt_tokens=1000)).warnings)
    assert decide(scenario(prompt_tokens=520)).runs[0].extrapolated == ()


def test_the_last_rate_that_was_tested_was_tested() -> None:
    """With every rate passing and no headroom the plan is the highest rate itself."""
    plant = measured(summary("none", load_curve=(point(0, 250 / 256, 250, 0.3, met=True),)), "here")
    spec = SPEC.model_copy(update={"headroom": 1.0})
    found = capacity(plant.origin, spec, 512.0, 256.0)
    assert (found.planned_rps, found.planned_rps) == pytest.approx(plant.origin.tested_rps)
    assert found.extrapolated == ()
    assert below(plant.origin, found.planned_rps, found.planned_rps) == []


def test_nothing_is_claimed_where_no_rate_was_tested() -> None:
    """Without any tested rate, no claim about extrapolation is made."""
    closed = measured(summary("none", load_curve=(point(0, None, 250, 0.3, met=None),)), "here").origin
    assert closed.tested_rps is None
    assert (above(closed, 99.0), below(closed, 0.001, 0.001)) == ([], [])
    assert decide().runs[0].planned_rps is None
    assert decide().runs[0].extrapolated_rates == ()
