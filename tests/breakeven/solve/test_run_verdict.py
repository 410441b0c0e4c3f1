"""One run priced: its fleet, and what of it lies outside the rates that were tested, with both values."""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.breakeven.scenarios import DAY, MONTH, asked, decide, scenario, solve
from tests.breakeven.summaries import hour, summary, write_all
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import RunVerdict, Verdict


def test_a_run_that_met_the_slo_at_no_rate_has_no_dollar_figure(tmp_path: Path) -> None:
    """A run without capacity at the SLO gets no price, as there is nothing to divide the cost by."""
    for one in (summary("none", at_slo=None), summary("w8a8", at_slo=None), summary("gptq-int4", at_slo=None)):
        (tmp_path / one.run).mkdir()
        one.write(tmp_path / one.run)
    found = solve(tmp_path)
    assert all(r.comparisons == () and r.output_usd_per_mtok is None for r in found.runs)
    assert "no capacity" in found.sentence


def test_more_tokens_an_hour_are_never_dearer(tmp_path: Path) -> None:
    """On the same machine, higher throughput gives a lower price per token."""
    write_all(tmp_path)
    slow, fast = solve(tmp_path).runs[2], solve(tmp_path).runs[1]
    assert hour(1).output_tokens_per_hour.value == 1
    assert fast.output_usd_per_mtok < slow.output_usd_per_mtok


def test_a_profile_fleet_is_sized_for_its_peak_or_follows_it() -> None:
    """A fixed fleet covers the daily peak; an autoscaled one follows demand and pays for cold starts."""
    fixed, follows = (decide(scenario(profile={"hours": DAY}, scaling=s)).runs[0] for s in ("fixed", "autoscale"))
    peak = max(DAY) / (sum(DAY) / 24)
    capacity = fixed.capacity_tokens_per_month
    assert fixed.fleet.hourly_replicas_today == (math.ceil(5e9 * peak / capacity),)
    by_hand = [math.ceil(5e9 / capacity * w / (sum(DAY) / 24)) for w in DAY]
    assert list(follows.fleet.hourly_replicas_today) == by_hand
    assert follows.cost_today.total < fixed.cost_today.total
    started = sum(max(0, by_hand[t] - by_hand[t - 1]) for t in range(24))
    months = sum(by_hand) / 24 + started * 0.1 / 24
    assert follows.cost_today.total == pytest.approx(months * 2.29 * MONTH)
    assert follows.fleet.scale_ups_per_month == pytest.approx(started * MONTH / 24)


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


def test_no_traffic_asks_for_no_rate(tmp_path: Path) -> None:
    """A volume of zero has no busiest hour, so nothing can be extrapolated."""
    _, run = one(tmp_path, tokens_per_month=0)
    assert run.busiest_rps is None
    assert run.extrapolated_rates == ()
