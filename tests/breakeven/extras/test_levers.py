"""Measured and quoted savings replace the ranges that a scenario guesses."""

from pathlib import Path

import pytest

from tests.breakeven.scenarios import DAY, asked, decide, scenario, solve
from tests.breakeven.summaries import summary
from tokenhour.breakeven.extras.lever_math import compound


def test_a_measured_lever_replaces_its_range(tmp_path: Path) -> None:
    """w8a8 serves 4/3 of the original's tokens: a quarter saved, with the ends of the intervals."""
    for one in (summary("none"), summary("w8a8", 1_200_000.0)):
        (tmp_path / one.run).mkdir()
        one.write(tmp_path / one.run)
    range_ = {"lever": "quantization", "low": 0.3, "high": 0.5}
    plan = solve(tmp_path, asked(schemes=["none", "w8a8"], levers=[range_])).levers
    (figure,) = plan.figures
    assert figure.badge == "measured"
    assert (figure.low, figure.high) == pytest.approx((max(0, 1 - 1.1 / 1.2), 1 - 0.9 / (4 / 3 * 1.1)), abs=0.02)
    assert figure.low <= 0.25 <= figure.high
    assert decide(scenario(levers=[range_])).levers.figures[0].badge == "assumed"


def test_autoscaling_is_what_the_profile_gives_and_spot_what_the_row_says() -> None:
    """Savings come from the traffic profile and the price table where these know them, and compound."""
    levers = [{"lever": "autoscaling"}, {"lever": "spot"}, {"lever": "commitments"}, {"lever": "idle_gpus"}]
    found = decide(scenario(tokens_per_month=50e9, profile={"hours": DAY}, levers=levers)).levers
    auto, spot = found.figures
    fixed, follows = (
        decide(scenario(tokens_per_month=50e9, profile={"hours": DAY}, scaling=s)).runs[0].cost_today.total
        for s in ("fixed", "autoscale")
    )
    assert auto.low == pytest.approx(1 - follows / fixed)
    assert spot.low == pytest.approx(1 - 0.80 / 2.29)
    assert spot.badge == "quoted"
    assert [x.split(":")[0] for x in found.left_out] == ["commitments", "idle_gpus"]
    assert found.low == pytest.approx(compound([auto.low, spot.low]))


def test_the_hit_rate_that_was_measured_replaces_a_range_for_caching(tmp_path: Path) -> None:
    """A measured prefix hit rate takes precedence over a guessed saving from caching."""
    one = summary("none")
    points = tuple(p.model_copy(update={"prefix_hit_rate": 0.5}) for p in one.load_curve)
    one = one.model_copy(update={"load_curve": points})
    (tmp_path / one.run).mkdir()
    one.write(tmp_path / one.run)
    (figure,) = solve(tmp_path, asked(schemes=["none"], levers=[{"lever": "caching", "low": 0, "high": 0.9}])).levers.figures
    assert figure.low == pytest.approx(0.5 * (512 / 4) / (512 / 4 + 256))
    assert figure.badge == "measured"
