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

from tests.breakeven.scenarios import BASE, DAY, ON, PRICES, decide, scenario
from tests.breakeven.summaries import LAG, summary, write_all
from tokenhour.breakeven.cli import cli
from tokenhour.breakeven.stage import load, run
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.records.verdict import Verdict

MONTH = 730.0


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


def test_every_default_is_printed_as_assumed() -> None:
    """Every value the user left out is listed as an assumption, so none acts unseen."""
    found = decide(scenario(headroom=0.7))
    said = {a.name: a for a in found.assumptions if a.badge == "assumed"}
    for name in (
        "headroom",
        "fleet",
        "spare replicas",
        "operations",
        "engineering",
        "storage",
        "egress",
        "set-up",
        "growth",
    ):
        assert name in said, name
    for name in ("discount rate", "price drifts", "electricity", "uncertainty, P10 to P90", "output over input price"):
        assert name in said, name
    assert said["headroom"].source == "scenario"
    assert said["growth"].source == "default"
    unsaid = next(a for a in decide(scenario(tokens_per_month=None)).assumptions if a.name == "tokens a month")
    assert (unsaid.value, unsaid.source) == ("1B", "default")


def test_requests_and_tokens_are_two_ways_to_say_a_volume() -> None:
    """The volume can be given in requests or in tokens, with the same result."""
    by_tokens, by_requests = decide(), decide(scenario(tokens_per_month=None, requests_per_month=5e9 / 768))
    assert by_requests.tokens_per_month == pytest.approx(by_tokens.tokens_per_month)
    assert by_requests.traffic.requests_per_month == pytest.approx(by_tokens.traffic.requests_per_month)


def test_another_mix_is_worked_out_and_marked_extrapolated() -> None:
    """An input token is a quarter of an output token's work: 2M/4 + 1M = 1.5M units an hour; 1000/4 + 50 a request."""
    run_ = decide(scenario(prompt_tokens=1000, output_tokens=50)).runs[0]
    assert run_.capacity_tokens_per_month == pytest.approx(1.5e6 / 300 * 1050 * 0.8 * MONTH)
    assert len(run_.extrapolated) == 2
    assert any("extrapolated" in w for w in decide(scenario(prompt_tokens=1000)).warnings)
    assert decide(scenario(prompt_tokens=520)).runs[0].extrapolated == ()


def test_each_kind_of_request_has_its_own_context_tier() -> None:
    """claude-haiku-5-5 costs five times as much above 100k: a mean of 75k would hide half of the requests there."""
    apis = [{"model": "claude-haiku-5-5", "host": "anthropic"}]
    kinds = [
        {"share": 1, "prompt_tokens": 149_000, "output_tokens": 1000},
        {"share": 1, "prompt_tokens": 1000, "output_tokens": 1000},
    ]
    found = decide(scenario(apis=apis, request_classes=kinds)).runs[0].comparisons[0]
    usd = (149e3 * 0.5 + 1000 * 2.5 + 1000 * 0.1 + 1000 * 0.5) / 1e6
    assert found.blended_usd_per_mtok == pytest.approx(usd / (152e3 / 1e6))


def test_a_tokenizer_ratio_makes_an_api_dearer_and_its_tiers_come_sooner() -> None:
    """An API whose tokenizer makes more tokens of a text costs more, and reaches its context tiers earlier."""
    ratio = {"model": "claude-haiku-5-5", "host": "anthropic", "tokens_ratio": 1.25}
    plain = {"model": "claude-haiku-5-5", "host": "anthropic"}
    asked = scenario(apis=[ratio, plain], prompt_tokens=90_000, output_tokens=100)
    with_ratio, without = decide(asked).runs[0].comparisons
    assert with_ratio.blended_usd_per_mtok == pytest.approx((90e3 * 1.25 * 0.5 + 125 * 2.5) / 90.1e3)
    assert without.blended_usd_per_mtok == pytest.approx((90e3 * 0.1 + 100 * 0.5) / 90.1e3)


def test_cached_written_and_batch_tokens_have_their_own_prices() -> None:
    """Cache reads, cache writes and batch requests are each billed at their own price."""
    apis = [{"model": "claude-haiku-4-5", "host": "anthropic"}]
    found = decide(scenario(apis=apis, cached_share=0.5, cache_write_share=0.25)).runs[0].comparisons[0]
    usd = 512 * (0.25 * 1 + 0.5 * 0.1 + 0.25 * 1.25) + 256 * 5
    assert found.blended_usd_per_mtok == pytest.approx(usd / 768)
    found = decide(scenario(apis=apis, batch_share=0.4)).runs[0].comparisons[0]
    assert found.blended_usd_per_mtok == pytest.approx((512 + 256 * 5) / 768 * (0.6 + 0.4 * 0.5))


def test_an_api_without_a_batch_tier_is_an_error_until_it_is_said_that_it_pays_full() -> None:
    """A missing batch price is an error until the user says that this API bills in full."""
    groq = {"model": "llama-3.1-8b-instruct", "host": "groq"}
    with pytest.raises(InputError, match="no batch price") as caught:
        decide(scenario(apis=[groq], batch_share=0.5))
    assert "batch_share: 0" in caught.value.remedy
    assert decide(scenario(apis=[{**groq, "batch_share": 0}], batch_share=0.5)).runs


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


def test_a_week_given_twice_a_day_is_the_same_as_the_day() -> None:
    """A week of equal days costs the same as that single day."""
    one, seven = (decide(scenario(profile={"hours": h}, scaling="autoscale")) for h in (DAY, DAY * 7))
    assert one.runs[0].cost_today.total == pytest.approx(seven.runs[0].cost_today.total)


def test_a_trace_gives_volume_and_shape(tmp_path: Path) -> None:
    """A trace supplies the volume and the daily profile, which then count as measured."""
    trace = tmp_path / "trace.csv"
    trace.write_text(
        "hour,input_tokens,output_tokens\n" + "\n".join(f"{i},{w * 2000},{w * 1000}" for i, w in enumerate(DAY))
    )
    found = decide(scenario(tokens_per_month=None, profile={"trace": str(trace)}))
    assert found.tokens_per_month == pytest.approx(sum(DAY) * 3000 / 24 * MONTH)
    assert (found.traffic.volume_badge, found.traffic.profile_badge) == ("measured", "measured")
    assert max(found.traffic.hourly_weights) == pytest.approx(max(DAY) / (sum(DAY) / 24))


def test_an_imported_log_gives_volume_mix_cache_and_shape(tmp_path: Path) -> None:
    """An imported log supplies volume, mix and cache share, and explicit values override it."""
    log = {
        "record": "traffic",
        "version": 1,
        "source": "a log",
        "hourly_share": [w / sum(DAY) / 7 for w in DAY * 7],
        "hours_observed": 168,
        "requests": 1000,
        "requests_per_month": 4e6,
        "tokens": {"prompt": 500.0, "cached": 100.0, "completion": 260.0},
        "peak_to_mean": max(DAY) / (sum(DAY) / 24),
        "first_utc": None,
        "last_utc": None,
    }
    file = tmp_path / "traffic.json"
    file.write_text(json.dumps(log))
    found = decide(scenario(tokens_per_month=None, profile={"file": str(file)}))
    assert found.tokens_per_month == pytest.approx(4e6 * 760)
    assert (found.traffic.prompt_tokens, found.traffic.cached_share) == (500, 0.2)
    assert found.traffic.volume_badge == found.traffic.mix_badge == "measured"
    mix = found.runs[0].comparisons[0].blended_usd_per_mtok
    assert mix == pytest.approx((500 * (0.8 * 0.15 + 0.2 * 0.075) + 260 * 0.6) / 760)
    said = decide(scenario(tokens_per_month=1e9, cached_share=0.0, profile={"file": str(file)}))
    assert (said.tokens_per_month, said.traffic.cached_share) == (1e9, 0.0)


def test_an_owned_machine_costs_its_annuity_power_and_room() -> None:
    """An owned machine costs its purchase spread over its life plus power, space and maintenance."""
    owned = {
        "capex_usd": 240_000,
        "accelerators": 8,
        "life_years": 4,
        "interest_rate_per_year": 0.0,
        "power_kw": 8.0,
        "pue": 1.25,
        "colocation_usd_per_month": 730,
        "maintenance_usd_per_year": 8760,
    }
    found = decide(scenario(purchase="owned", owned=owned, hardware=None, electricity_usd_per_kwh=0.2)).runs[0]
    assert found.instance is None
    assert found.replica_usd_per_hour == pytest.approx((240_000 / 4 / 8760 + 8 * 1.25 * 0.2 + 1 + 1) / 8)
    first = found.comparisons[1].projection.months[0]
    # The machine is paid at once: three replicas' share of the purchase.
    assert first.cumulative_saving_usd < -3 * 240_000 / 8 + first.api_usd
    assert first.self_host_usd == pytest.approx(3 * (8 * 1.25 * 0.2 + 2) / 8 * MONTH)


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


def test_known_price_changes_enter_the_projection() -> None:
    """gemini-3.8-flash doubles on 2027-01-01; gpt-5-mini ends on 2026-12-11."""
    apis = [{"model": "gemini-3.8-flash", "host": "google"}, {"model": "gpt-5-mini", "host": "openai"}]
    gemini, mini = (c.projection for c in decide(scenario(apis=apis)).runs[0].comparisons)
    assert gemini.months[2].api_usd == pytest.approx(2 * gemini.months[1].api_usd)
    assert any("2027-01-01" in note for note in gemini.notes)
    assert mini.months[3].api_usd == pytest.approx(mini.months[0].api_usd)
    assert any("2026-12-11" in note and "held" in note for note in mini.notes)


def test_a_measured_summary_gives_a_measured_verdict_and_its_energy(tmp_path: Path) -> None:
    """A scenario built on a summary counts as measured and includes its energy cost."""
    one = summary("none", energy_j_per_output_token=0.72)
    (tmp_path / one.run).mkdir()
    one.write(tmp_path / one.run)
    file = tmp_path / "mine.yaml"
    data = {**BASE, "name": "mine", "summaries": [str(tmp_path / one.run)]}
    data["economics"] = {**BASE["economics"], "hardware": "c7i.large", "cloud": "aws"}
    del data["assumed"]
    file.write_text(yaml.safe_dump(data))
    found, _ = run(load(file), tmp_path / "results", PRICES, allow_invalid=False)
    assert found.runs[0].origin.badge == "measured"
    assert found.runs[0].energy_usd_per_mtok_output == pytest.approx(0.72 / 3.6 * 0.15)
    assert Verdict.read(tmp_path / "results/mine").sentence == found.sentence
    again, reused = run(load(file), tmp_path / "results", PRICES, allow_invalid=False)
    assert reused
    assert again == found


def test_an_invalid_summary_is_refused(tmp_path: Path) -> None:
    """A scenario cannot bring an invalid measurement in, and leaves no results behind."""
    write_all(tmp_path, validity="INVALID", reasons=(LAG,))
    data = {**BASE, "name": "mine", "summaries": [str(tmp_path / "golden-none")]}
    del data["assumed"]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(RunFailedError, match="client lag"):
        run(load(file), tmp_path / "results", PRICES, allow_invalid=False)
    assert not (tmp_path / "results").exists()


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


@pytest.mark.parametrize("usd", [1e15, 1e300])
def test_costs_beyond_any_fleet_are_answered_at_once(usd: float) -> None:
    """Absurdly high fixed costs are answered as beyond capacity."""
    apis = [{"model": "claude-haiku-4-5", "host": "anthropic"}]
    assert decide(scenario(apis=apis, ops_usd_per_month=usd)).runs[0].comparisons[0].outcome == "beyond_capacity"


def test_the_sentence_names_a_single_api() -> None:
    """With one API the sentence names it and says which side wins."""
    haiku, mini = {"model": "claude-haiku-4-5", "host": "anthropic"}, {"model": "gpt-4o-mini", "host": "openai"}
    assert "beats claude-haiku-4-5 (anthropic)" in decide(scenario(apis=[haiku])).sentence
    assert "does not beat gpt-4o-mini (openai)" in decide(scenario(apis=[mini], ops_usd_per_month=5000)).sentence


def test_another_record_is_named(tmp_path: Path) -> None:
    """A file of an unknown record kind is rejected, and the remedy names the kinds that exist."""
    (tmp_path / "x.yaml").write_text("record: scenari0\nname: x\n")
    with pytest.raises(InputError, match="scenari0") as caught:
        load(tmp_path / "x.yaml")
    assert "experiment and scenario" in caught.value.remedy


def test_a_machine_is_found_by_its_accelerator_too() -> None:
    """Users can name a GPU instead of an instance type."""
    assert decide(scenario(hardware="H100")).runs[0].instance.instance == "H100_1x"


def test_a_free_api_is_never_beaten(tmp_path: Path) -> None:
    """An API that costs nothing always wins, and no figure is divided by its price."""
    for name in ("api.yaml", "instances.yaml"):
        text = (PRICES / name).read_text().replace("input: 0.15", "input: 0").replace("output: 0.6\n", "output: 0\n")
        (tmp_path / name).write_text(text)
    from tokenhour.breakeven.prices.tables import load_tables

    free = (
        decide(scenario(efficiency={"unit": "answer", "value_usd_per_unit": 1}), load_tables(tmp_path))
        .runs[0]
        .comparisons[0]
    )
    assert (free.outcome, free.api_usd_per_month, free.hybrid.base_replicas) == ("never", 0, 0)
    assert (free.monte_carlo.win_probability, free.efficiency.api_ratio) == (0, None)


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


@pytest.mark.parametrize("text", ["tokens\n", "tokens\n1\n-2\n", "tokens\n1\nnan\n", "tokens\n0\n0\n", "volume\n1\n"])
def test_a_bad_trace_is_named_with_its_line(tmp_path: Path, text: str) -> None:
    """An unusable trace is rejected with its path and a remedy."""
    trace = tmp_path / "trace.csv"
    trace.write_text(text)
    with pytest.raises(InputError) as caught:
        decide(scenario(profile={"trace": str(trace)}))
    assert str(trace) in caught.value.where
    assert caught.value.remedy


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


def sources(found: Verdict) -> dict[str, str]:
    """Return the source of each assumed input by name."""
    return {a.name: a.source for a in found.assumptions if a.badge == "assumed"}


def test_every_default_is_printed_and_a_line_of_several_says_which_of_them_are() -> None:
    """Where one line shows several inputs, it says which of them are defaults."""
    plain = sources(decide())
    assert plain["headroom"] == plain["operations"] == plain["fleet"] == "default"
    assert plain["purchase"] == "scenario; default: purchase"
    assert plain["random draws"] == "scenario; default: seed"
    assert sources(decide(scenario(ops_share=0.1)))["operations"] == "scenario; default: ops_usd_per_month"
    owned = {"capex_usd": 1e5, "power_kw": 1.0, "pue": 1.2}
    found = sources(decide(scenario(purchase="owned", owned=owned, hardware=None, cloud=None)))
    assert found["owning it"].startswith("scenario; default: life_years, interest_rate_per_year")
    spot = {"interruptions_per_hour": 0.1, "checkpoint_interval_h": 1, "restart_h": 0.1}
    assert sources(decide(scenario(spot=spot)))["spot"] == "default"


def test_each_field_with_a_default_stands_on_a_line() -> None:
    """Left out: what has no effect unless asked, and what is shown as measured or quoted, or in the title."""
    import inspect

    from tokenhour.breakeven.solve import assumptions
    from tokenhour.contracts.config.economics import EconomicsSpec

    elsewhere = {
        "hardware", "region", "owned", "apis", "tokens_per_month", "requests_per_month", "prompt_tokens", "output_tokens",
        "request_classes", "profile", "currency", "rates", "on_date",
        "portfolio", "levers", "spot", "commitments", "training", "efficiency",
    }  # fmt: skip
    text = inspect.getsource(assumptions)
    missing = [name for name in EconomicsSpec.model_fields if name not in elsewhere and f'"{name}"' not in text]
    assert missing == []
