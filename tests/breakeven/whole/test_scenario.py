"""Scenarios: what they may say, what follows from it by hand, and what is refused without a trace left."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tests.breakeven.scenarios import BASE, DAY, MONTH, ON, PRICES, decide, scenario
from tokenhour.breakeven.cli import cli
from tokenhour.breakeven.stage import load
from tokenhour.contracts.errors import InputError


def test_an_assumed_capacity_is_badged_everywhere() -> None:
    """A capacity that nobody measured is marked as assumed in the sentence, warnings and inputs."""
    found = decide()
    assert found.runs[0].origin.badge == "assumed"
    assert "(assumed capacity)" in found.sentence
    assert any("nobody measured it here" in w for w in found.warnings)
    assert {a.badge for a in found.assumptions if a.name.startswith("capacity")} == {"assumed"}


def test_figures_follow_by_hand() -> None:
    """3M tokens an hour x 0.8 x 730; $2.29 x 730; gpt-4o-mini at 2:1 is $0.30 per M."""
    run_ = decide().runs[0]
    capacity, replica = 3e6 * 0.8 * MONTH, 2.29 * MONTH
    assert run_.capacity_tokens_per_month == pytest.approx(capacity)
    openai = run_.comparisons[0]
    assert openai.blended_usd_per_mtok == pytest.approx(0.30)
    assert openai.outcome == "never"
    assert openai.self_host_usd_per_month == pytest.approx(replica * math.ceil(5e9 / capacity))
    assert openai.competitive_utilization == pytest.approx(replica / capacity * 1e6 / 0.30)


def test_a_price_in_another_currency_is_converted_at_the_stated_rate(tmp_path: Path) -> None:
    """Foreign prices are converted at the user's rate; without one they are rejected."""
    for name in ("api.yaml", "instances.yaml"):
        (tmp_path / name).write_text(
            (PRICES / name).read_text().replace("    output: 0.6\n", "    output: 0.6\n    currency: EUR\n", 1)
        )
    from tokenhour.breakeven.prices.tables import load_tables

    tables = load_tables(tmp_path)
    rate = {"EUR": {"usd": 1.1, "source": "a test"}}
    found = decide(scenario(rates=rate, currency="EUR"), tables)
    assert found.runs[0].comparisons[0].blended_usd_per_mtok == pytest.approx(0.30 * 1.1)
    assert (found.currency.code, found.currency.usd_per_unit) == ("EUR", 1.1)
    with pytest.raises(InputError, match="no rate is stated") as caught:
        decide(scenario(), tables)
    assert "rates" in caught.value.remedy


TRACE = "/nowhere/trace.csv"
BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "missing price": (
        {"apis": [{"model": "gpt-4o-min", "host": "openai"}]},
        ["no price of gpt-4o-min", "gpt-4o-mini at openai"],
    ),
    "old price": (
        {"max_price_age_days": 1, "on_date": "2026-12-01"},
        ["last checked on 2026-11-23", "8 days", "max_price_age_days"],
    ),
    "negative": ({"ops_usd_per_month": -5}, ["economics.ops_usd_per_month", "-5", "greater than or equal to 0"]),
    "not a number": ({"storage_usd_per_month": math.nan}, ["economics.storage_usd_per_month", "nan", "finite"]),
    "unknown GPU": ({"hardware": "H1000"}, ["no price of H1000 at verda", "H100 at verda"]),
    "zero profile": ({"profile": {"hours": [0] * 24}}, ["economics.profile", "sums to zero"]),
    "short profile": ({"profile": {"hours": [1, 2]}}, ["economics.profile", "24", "168"]),
    "no rate": ({"currency": "EUR"}, ["EUR has no rate", "rates"]),
    "zero capacity": (
        {"_assumed": {"output_tokens_per_hour": 0}},
        ["assumed.output_tokens_per_hour", "0", "greater than 0"],
    ),
    "discount of -100 %": ({"discount_rate_per_year": -1}, ["economics.discount_rate_per_year", "-1", "greater than -1"]),
    "interest of -100 %": (
        {"purchase": "owned", "owned": {"capex_usd": 1, "power_kw": 1, "interest_rate_per_year": -1}},
        ["economics.owned.interest_rate_per_year", "greater than -1"],
    ),
    "owned without power": ({"purchase": "owned", "owned": {"capex_usd": 1}}, ["power_kw", "kW"]),
    "owned without a section": ({"purchase": "owned"}, ["owned", "both or neither"]),
    "both volumes": ({"requests_per_month": 1}, ["tokens_per_month and requests_per_month"]),
    "unknown field": ({"headrom": 0.8}, ["unknown field economics.headrom", "headroom"]),
    "no date": ({"on_date": "soon"}, ["economics.on_date", "soon", "2026-11-24"]),
    "ended model": ({"apis": [{"model": "gpt-5-mini", "host": "openai"}], "on_date": "2026-12-12"}, ["ended on 2026-12-11"]),
    "no spot price": ({"purchase": "spot", "cloud": "lambda", "hardware": "H100_8x"}, ["no spot price", "on_demand"]),
    "shares above one": ({"cached_share": 0.7, "cache_write_share": 0.5}, ["cached_share 0.7"]),
    "no such trace": ({"profile": {"trace": TRACE}}, [TRACE, "cannot be read"]),
    "no such log": ({"profile": {"file": "/nowhere/traffic.json"}}, ["/nowhere", "traffic.json"]),
    "spread on one side": (
        {"uncertainty": {"volume": {"p10": 1.2, "p90": 1.5}}},
        ["economics.uncertainty.volume", "either side of 1"],
    ),
    "a fleet beyond memory": (
        {"max_replicas": 10**8, "scaling": "autoscale", "profile": {"hours": DAY}},
        ["economics.max_replicas", "100,000,000 replicas", "at most 833,333"],
    ),
    "a lever twice": (
        {"levers": [{"lever": "spot"}, {"lever": "spot", "low": 0.1, "high": 0.2}]},
        ["economics", "spot on gpu twice"],
    ),
    "no idle record": ({"levers": [{"lever": "idle_gpus", "record": "/nowhere"}]}, ["levers", "/nowhere", "idle.json"]),
    "GPU for a CPU": ({"hardware": "c7i.large", "cloud": "aws"}, ["economics.hardware", "cpu instance"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_message_with_remedy_and_leaves_nothing(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad input ends in one error with a remedy, no traceback and no file left behind."""
    changes, said = BAD[name]
    data = json.loads(json.dumps(BASE))
    data["assumed"] |= changes.get("_assumed", {})
    data["economics"] |= {k: v for k, v in changes.items() if k != "_assumed"}
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(data))
    code, message = outcome(["solve", str(file), "--results", str(tmp_path / "results")], capsys)
    assert code == 2
    assert message.startswith("error: ")
    assert message.count("error:") == 1
    assert "remedy:" in message
    assert "Traceback" not in message
    for words in said:
        assert words in message, message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.yaml"]


def outcome(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command and return its exit code and what it wrote to stderr."""
    from tokenhour.contracts.errors import exit_code_of

    code = exit_code_of(lambda: cli.main(arguments, standalone_mode=False))
    return code, capsys.readouterr().err


def test_a_users_log_becomes_the_economics_traffic_in_one_command(tmp_path: Path) -> None:
    """`bench import-log` writes what `profile.file` reads."""
    from tokenhour.bench.cli import cli as bench

    log = tmp_path / "log.csv"
    rows = [
        f"2026-11-{2 + day:02d}T{hour:02d}:{m:02d}:00Z,600,200"
        for day in range(7)
        for hour in range(24)
        for m in range(DAY[hour])
    ]
    log.write_text("timestamp,prompt_tokens,completion_tokens\n" + "\n".join(rows) + "\n")
    done = CliRunner().invoke(bench, ["import-log", str(log), "--out", str(tmp_path / "traffic")], catch_exceptions=False)
    assert done.exit_code == 0
    found = decide(scenario(tokens_per_month=None, profile={"file": str(tmp_path / "traffic/traffic.json")}))
    assert found.traffic.volume_badge == found.traffic.profile_badge == "measured"
    assert (found.traffic.prompt_tokens, found.traffic.output_tokens) == (600, 200)
    assert found.tokens_per_month == pytest.approx(len(rows) * 800 * MONTH / 168, rel=0.02)
    assert max(found.traffic.hourly_weights) == pytest.approx(max(DAY) / (sum(DAY) / 24), rel=0.02)


def test_bad_input_through_the_front_door_exits_with_2(tmp_path: Path) -> None:
    """Bad input exits with code 2 and the file's name, so scripts can react to it."""
    data = {**BASE, "economics": {**BASE["economics"], "discount_rate_per_year": -1}}
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(data))
    done = subprocess.run(
        [sys.executable, "-m", "tokenhour", "breakeven", "solve", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"{file}:" in done.stderr


@pytest.mark.parametrize("file", sorted(Path("configs/scenarios").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_shipped_scenarios_are_solved(file: Path) -> None:
    """Every scenario that ships with the tool can be solved as it is."""
    assert decide(load(file), on=ON).runs[0].comparisons
