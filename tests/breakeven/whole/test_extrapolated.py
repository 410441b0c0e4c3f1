"""What lies outside the rates and the mix that were measured is marked extrapolated, with both values."""

from pathlib import Path
from typing import Any

import pytest

from tests.breakeven.scenarios import decide
from tests.breakeven.summaries import point, summary
from tests.breakeven.test_verdict import asked, solve
from tokenhour.breakeven.inputs.capacity import above, below, capacity, measured
from tokenhour.contracts.config.economics import EconomicsSpec
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import RunVerdict, Verdict

SPEC = EconomicsSpec.model_validate({"hardware": "x", "apis": [{"model": "a", "host": "b"}]})


def one(tmp_path: Path, made: Summary | None = None, **economics: Any) -> tuple[Verdict, RunVerdict]:
    """Return the only run of a verdict; tested from 0.24 to 1.17 requests/s, 0.977 met the SLO."""
    made = made or summary("none")
    (tmp_path / made.run).mkdir()
    made.write(tmp_path / made.run)
    found = solve(tmp_path, asked(schemes=["none"], **economics))
    return found, found.runs[0]


def test_a_plan_inside_the_tested_rates_is_no_extrapolation(tmp_path: Path) -> None:
    """A plan within the measured request rates carries no extrapolation warning."""
    found, run = one(tmp_path)
    assert run.planned_rps == pytest.approx(0.8 * 900_000 / 3600 / 256)
    assert run.origin.tested_rps == pytest.approx((0.25 * 250 / 256, 1.2 * 250 / 256))
    assert (run.extrapolated, run.extrapolated_rates) == ((), ())
    assert not any("extrapolated" in w for w in found.warnings)


def test_shorter_requests_that_need_more_a_second_than_was_offered_are_extrapolated_with_both_values(tmp_path: Path) -> None:
    """64/32 tokens are an eighth of the work of 512/256: eight times the requests."""
    found, run = one(tmp_path, prompt_tokens=64, output_tokens=32)
    assert run.planned_rps == pytest.approx(8 * 0.8 * 250 / 256)
    assert run.extrapolated[-1] == "planned for 6.25 requests/s a replica, tested from 0.244 to 1.17 requests/s"
    (row,) = [a for a in found.assumptions if a.name == f"capacity of {run.run}"]
    assert row.badge == "assumed"
    assert "6.25" in row.value
    assert any("is extrapolated" in w and "6.25" in w and "1.17" in w for w in found.warnings)


def test_less_than_was_ever_offered_is_said_and_leaves_the_capacity_measured(tmp_path: Path) -> None:
    """Traffic below every tested rate is pointed out, yet the capacity still counts as measured."""
    found, run = one(tmp_path, tokens_per_month=1e7)
    assert run.busiest_rps == pytest.approx(1e7 / 768 / (730 * 3600))
    assert run.extrapolated_rates == (
        "today's busiest hour asks 0.00495 requests/s of a replica, tested from 0.244 to 1.17 requests/s",
    )
    assert run.extrapolated == ()
    (row,) = [a for a in found.assumptions if a.name == f"capacity of {run.run}"]
    assert row.badge == "measured"
    assert any("extrapolated" in w and "0.00495" in w and "0.244" in w for w in found.warnings)


def test_a_headroom_below_every_tested_rate_is_said(tmp_path: Path) -> None:
    """A planned load below every tested rate is reported with both rates."""
    _, run = one(tmp_path, headroom=0.1)
    assert run.extrapolated_rates[0].startswith("planned load asks 0.0977 requests/s of a replica")


def test_the_busiest_hour_counts_not_the_mean(tmp_path: Path) -> None:
    """The mean hour alone would lie below the tested rates; its peak does not."""
    hours = [0] * 23 + [24]
    _, run = one(tmp_path, tokens_per_month=0.12e9, profile={"hours": hours})
    mean = 0.12e9 / 768 / (730 * 3600)
    tested = run.origin.tested_rps
    assert tested is not None
    assert mean < tested[0] < run.busiest_rps
    assert run.extrapolated_rates == ()


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


def test_no_traffic_asks_for_no_rate(tmp_path: Path) -> None:
    """A volume of zero has no busiest hour, so nothing can be extrapolated."""
    _, run = one(tmp_path, tokens_per_month=0)
    assert run.busiest_rps is None
    assert run.extrapolated_rates == ()
