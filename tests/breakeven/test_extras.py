"""The wider questions of a scenario: each with its figures, its section and its command."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tests.breakeven.scenarios import BASE, DAY, decide, scenario
from tests.breakeven.summaries import summary
from tests.breakeven.test_verdict import asked, solve
from tokenhour.breakeven.cli import WIDER, cli
from tokenhour.breakeven.extras.lever_math import compound
from tokenhour.breakeven.extras.portfolio import satisfies
from tokenhour.breakeven.report.tables import sections
from tokenhour.contracts.config.bench import SloSpec
from tokenhour.contracts.errors import InputError

FEATURES = [
    {"name": "chat", "requests_per_month": 30e6, "prompt_tokens": 700, "output_tokens": 300},
    {"name": "small", "requests_per_month": 1000, "prompt_tokens": 100, "output_tokens": 50},
    {
        "name": "voice",
        "requests_per_month": 1e6,
        "prompt_tokens": 300,
        "output_tokens": 60,
        "slo": {"percentile": 90, "ttft_s": 0.1},
    },
    {"name": "law", "requests_per_month": 1e6, "prompt_tokens": 900, "output_tokens": 60, "self_hostable": False},
]
SPOT = {"interruptions_per_hour": 0.05, "checkpoint_interval_h": 1.0, "restart_h": 0.2, "checkpoint_cost_h": 0.02}
TRAINING = {"training_usd": 1000, "requests_per_month": 1e6, "usd_per_million_requests": 100}
COMMIT = {"options": [{"instance": "H100_1x", "cloud": "verda", "reserved_usd_per_hour": 1.5}]}
EVERYTHING: dict[str, Any] = {
    "portfolio": FEATURES,
    "levers": [{"lever": "caching", "low": 0.1, "high": 0.2, "source": "a test"}],
    "spot": SPOT,
    "commitments": COMMIT,
    "training": TRAINING,
    "efficiency": {"unit": "ticket", "value_usd_per_unit": 0.95},
}


def test_the_portfolio_places_each_feature_with_its_reason() -> None:
    """Each feature goes to the cheaper side, unless its objective or quality keeps it at the API."""
    fast = {"input_tokens_per_hour": 2.7e7, "output_tokens_per_hour": 1.35e7}
    found = decide(scenario(fast, portfolio=FEATURES)).portfolio
    sides = {p.name: p.side for p in found.placements}
    assert sides == {"chat": "self-host", "small": "self-host", "voice": "api", "law": "api"}
    reasons = {p.name: p.reason for p in found.placements}
    assert "stricter" in reasons["voice"]
    assert "quality" in reasons["law"]
    chat = found.placements[0]
    assert chat.api_usd_per_month == pytest.approx(30 * (700 * 0.15 + 300 * 0.6))
    assert found.total_usd_per_month == pytest.approx(found.self_host_usd_per_month + found.api_usd_per_month)
    assert found.total_usd_per_month < found.all_api_usd_per_month
    assert found.all_self_host_usd_per_month is None


@pytest.mark.parametrize(
    ("measured", "wanted", "expected"),
    [
        ({"percentile": 99, "ttft_s": 0.5}, {"percentile": 90, "ttft_s": 0.5}, True),
        ({"percentile": 90, "ttft_s": 0.5}, {"percentile": 99, "ttft_s": 0.5}, False),
        ({"percentile": 90, "ttft_s": 0.5}, {"percentile": 90, "ttft_s": 0.4}, False),
        ({"percentile": 90, "ttft_s": 0.5}, {"percentile": 90, "tpot_s": 0.1}, False),
        ({"percentile": 90, "ttft_s": 0.5, "tpot_s": 0.05}, {"percentile": 90, "tpot_s": 0.1}, True),
    ],
)
def test_an_objective_holds_when_the_measured_one_implies_it(
    measured: dict[str, Any], wanted: dict[str, Any], expected: bool
) -> None:
    """A latency objective counts as met only when a measured one is at least as strict."""
    assert satisfies(SloSpec(**measured), SloSpec(**wanted)) == expected
    assert not satisfies(None, SloSpec(**wanted))


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


def test_sections_stand_only_where_they_are_asked() -> None:
    """The report has a section for each optional question that was asked, and for no other."""
    asked_for = {s.name for s in sections(decide(scenario(**EVERYTHING)))}
    assert {"portfolio", "levers", "spot", "commitments", "training", "efficiency"} <= asked_for
    unasked = {s.name for s in sections(decide())}
    assert not {"portfolio", "levers", "spot", "commitments", "training", "efficiency"} & unasked
    for section in sections(decide(scenario(**EVERYTHING))):
        assert all(len(cells) == len(section.columns) for cells in section.rows), section.name


@pytest.mark.parametrize("name", WIDER)
def test_each_question_has_a_command(name: str, tmp_path: Path) -> None:
    """Each optional question has a command that writes no file and rejects scenarios that never ask it."""
    file = tmp_path / "asked.yaml"
    file.write_text(yaml.safe_dump({**BASE, "economics": {**BASE["economics"], **EVERYTHING}}))
    done = CliRunner().invoke(cli, [name, str(file), "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)
    assert CliRunner().invoke(cli, [name, str(file)], catch_exceptions=False).stdout
    assert [p.name for p in tmp_path.iterdir()] == ["asked.yaml"]
    file.write_text(yaml.safe_dump(BASE))
    with pytest.raises(InputError, match=f"asks nothing about {name}"):
        CliRunner().invoke(cli, [name, str(file)], catch_exceptions=False)
