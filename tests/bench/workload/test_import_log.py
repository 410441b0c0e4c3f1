"""A log of requests becomes a workload and a traffic profile; one bad line is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.bench.workload.conftest import write
from tokenhour.bench.cli.tools import import_log
from tokenhour.bench.workload.import_log import convert
from tokenhour.bench.workload.traces import load
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.yaml_loader import validate_yaml
from tokenhour.contracts.records.endpoint import Load
from tokenhour.contracts.standalone.traffic_profile import TrafficProfile

MONDAY = 4 * 86_400


def week_of_csv(folder: Path) -> Path:
    """One request an hour for two weeks; twice the tokens at 9 o'clock on Mondays."""
    lines = ["timestamp,prompt_tokens,completion_tokens"]
    for hour in range(336):
        factor = 2 if hour % 168 == 9 else 1
        lines.append(f"{MONDAY + hour * 3600 + 60},{100 * factor},{50 * factor}")
    return write(folder, "\n".join(lines))


def test_two_whole_weeks_give_the_shape_of_a_week(tmp_path: Path) -> None:
    """The profile needs no assumption when the log covers whole weeks."""
    found = convert(week_of_csv(tmp_path), tmp_path / "out", "mine").profile
    assert found == TrafficProfile.read(tmp_path / "out")
    assert found.requests_per_month == pytest.approx(730)
    assert found.hourly_share[9] == pytest.approx(2 / 169)
    assert found.hourly_share[10] == pytest.approx(1 / 169)
    assert found.peak_to_mean == pytest.approx(2 * 168 / 169)
    assert found.assumed == ()
    assert found.first_utc == "1970-01-05T00:01:00+00:00"


def test_the_workload_file_asks_the_same_requests_in_their_order(tmp_path: Path) -> None:
    """A load can replay the log request by request."""
    made = convert(week_of_csv(tmp_path), tmp_path / "out", "mine")
    trace = load(made.requests_file)
    assert len(trace.prompt_tokens) == 336
    assert trace.prompt_tokens[9] == 200
    assert trace.times_s is not None
    assert trace.times_s[:2].tolist() == [0, 3600]


def test_a_day_of_json_lines_fills_the_week_and_says_so(tmp_path: Path) -> None:
    """Missing days are filled from the same hours, and the assumption is recorded."""
    lines = [
        json.dumps({"created_at": f"1970-01-06T{h:02d}:30:00Z", "usage": {"prompt_tokens": 10, "completion_tokens": 5 + h}})
        for h in range(24)
    ]
    found = convert(write(tmp_path, "\n".join(lines), "log.jsonl"), tmp_path / "out", "x").profile
    assert "same hour of the days" in found.assumed[0]
    assert found.hourly_share[:24] == pytest.approx(found.hourly_share[24:48])
    assert found.hourly_share[23] > found.hourly_share[0]


def test_a_usage_export_gives_a_profile_without_single_requests(tmp_path: Path) -> None:
    """Sums cannot be replayed, so the workload gets their mean lengths and the user is told."""
    buckets = [
        {
            "start_time": MONDAY + h * 3600,
            "results": [
                {"input_tokens": 900, "output_tokens": 300, "input_cached_tokens": 90, "num_model_requests": 3},
                {"input_tokens": 100, "output_tokens": 100, "input_cached_tokens": 0, "num_model_requests": 1},
            ],
        }
        for h in range(168)
    ]
    log = write(tmp_path, json.dumps({"object": "page", "data": buckets}), "usage.json")
    made = convert(log, tmp_path / "out", "x")
    assert made.requests_file is None
    assert not (tmp_path / "out/requests.csv").exists()
    assert made.profile.requests == 4 * 168
    assert made.profile.tokens.prompt == 250
    assert made.profile.tokens.cached == 22.5
    load_file = write(tmp_path, made.fragment_file.read_text() + "slo: {percentile: 90, ttft_s: 1}\n", "load.yaml")
    workload = validate_yaml(Load, load_file).workload
    assert (workload.prompt.mean_tokens, workload.output.mean_tokens) == (250, 100)
    said = CliRunner().invoke(import_log, [str(log), "--out", str(tmp_path / "again")]).output
    assert "no requests.csv: the log has sums" in said
    assert "again/workload.yaml" in said


def days_of_usage(days: int, *, ends: bool = True) -> dict[str, Any]:
    """An export of one bucket a day, as the usage API answers when no width is asked for: the second day is idle."""
    return {
        "object": "page",
        "data": [
            {
                "object": "bucket",
                "start_time": MONDAY + d * 86_400,
                **({"end_time": MONDAY + (d + 1) * 86_400} if ends else {}),
                "results": []
                if d == 1
                else [{"input_tokens": 24_000, "output_tokens": 4_800, "num_model_requests": 48, "project_id": None}],
            }
            for d in range(days)
        ],
    }


@pytest.mark.parametrize("ends", [True, False], ids=["with end_time", "without"])
def test_buckets_of_a_day_are_spread_over_its_hours_and_that_is_said(tmp_path: Path, ends: bool) -> None:
    """Daily sums give no hourly shape; the profile states that it is assumed even."""
    log = write(tmp_path, json.dumps(days_of_usage(7, ends=ends)), "usage.json")
    found = convert(log, tmp_path / "out", "x").profile
    assert found.hours_observed == 168
    assert found.requests_per_month == pytest.approx(6 * 48 / 168 * 730)
    assert found.hourly_share[:24] == pytest.approx([1 / 144] * 24)
    assert found.hourly_share[24:48] == pytest.approx([0] * 24)
    assert found.peak_to_mean == pytest.approx(7 / 6)
    assert any("sums of 24 h are spread evenly over their hours" in said for said in found.assumed)
    assert any("without end_time are taken to last 24 h" in said for said in found.assumed) is not ends


def test_one_bucket_of_a_day_is_a_day_and_not_an_hour(tmp_path: Path) -> None:
    """Its end time tells the length; else demand would be 24 times too high."""
    log = write(tmp_path, json.dumps(days_of_usage(1)), "usage.json")
    found = convert(log, tmp_path / "out", "x").profile
    assert found.hours_observed == 24
    assert found.requests_per_month == pytest.approx(48 / 24 * 730)
    assert found.peak_to_mean == pytest.approx(1)


def test_one_bucket_of_unknown_length_is_refused(tmp_path: Path) -> None:
    """Without any hint of its length no rate can be given."""
    log = write(tmp_path, json.dumps(days_of_usage(1, ends=False)), "usage.json")
    with pytest.raises(InputError, match=r"data\[0\]: how long these 48 requests took .*\n.*add end_time"):
        convert(log, tmp_path / "out", "x")


def profile_of_text(text: str, tmp_path: Path, name: str = "log.csv") -> TrafficProfile:
    """Convert a log's text and return the profile."""
    return convert(write(tmp_path, text, name), tmp_path / "out", "x").profile


def test_mooncakes_times_are_milliseconds_and_that_is_said(tmp_path: Path) -> None:
    """Mooncake's format is known; read as seconds, its traffic would be a thousandth."""
    lines = [json.dumps({"timestamp": h * 3_600_000, "input_length": 10, "output_length": 5}) for h in range(48)]
    found = profile_of_text("\n".join(lines), tmp_path)
    assert found.hours_observed == 48
    assert found.requests_per_month == pytest.approx(730)
    assert "the times of 48 of 48 lines are taken as milliseconds" in found.assumed


def test_unix_times_in_milliseconds_are_told_from_seconds_and_that_is_said(tmp_path: Path) -> None:
    """A log's unit is recognized by its size, and the profile records that."""
    text = "timestamp,prompt_tokens,completion_tokens\n1700000000000,1,2\n1700003600000,1,2\n"
    found = profile_of_text(text, tmp_path)
    assert (found.first_utc, found.hours_observed) == ("2023-11-14T22:13:20+00:00", 2)
    assert "the times of 2 of 2 lines are taken as milliseconds" in found.assumed
    assert load(write(tmp_path, text.replace("timestamp,", "timestamp_s,"))).times_s.tolist() == [1.7e9, 1.7e9 + 3600]


def test_a_prompt_in_the_log_may_be_longer_than_csv_allows_by_default(tmp_path: Path) -> None:
    """Logs with whole prompts are read, although only their counts are used."""
    found = profile_of_text(f"prompt,prompt_tokens,completion_tokens\n{'x' * 200_000},10,5\n", tmp_path)
    assert found.requests == 1


def test_requests_without_tokens_on_a_side_are_left_out_counted_and_said(tmp_path: Path) -> None:
    """They count as demand but cannot be replayed."""
    log = write(tmp_path, "prompt_tokens,completion_tokens\n10,5\n10,0\n0,5\n20,5\n")
    made = convert(log, tmp_path / "out", "x")
    assert made.left_out == 2
    assert made.profile.requests == 4
    assert load(made.requests_file).prompt_tokens.tolist() == [10, 20]
    said = CliRunner().invoke(import_log, [str(log), "--out", str(tmp_path / "again")]).output
    assert "2 requests without prompt or completion tokens" in said
    assert convert(week_of_csv(tmp_path), tmp_path / "all", "x").left_out == 0


def test_without_timestamps_demand_is_flat_and_that_is_assumed(tmp_path: Path) -> None:
    """Token counts alone still give a profile, marked as an assumption."""
    found = convert(write(tmp_path, "prompt_tokens,completion_tokens\n10,5\n"), tmp_path / "out", "x").profile
    assert "no timestamps" in found.assumed[0]
    assert found.peak_to_mean == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,prompt_tokens\n1,5\n", ["log.csv:2", "no completion token count", "output_tokens"]),
        ("prompt_tokens,completion_tokens\n10,5\nten,5\n", ["log.csv:3", "prompt_tokens = 'ten'"]),
        ("prompt_tokens,completion_tokens\n10,5\n10\n", ["log.csv:3", "2 columns"]),
        ("prompt_tokens,completion_tokens\n10,-5\n", ["log.csv:2", "completion_tokens = '-5'"]),
        ("timestamp,prompt_tokens,completion_tokens\nnoon,1,2\n", ["log.csv:2", "timestamp = 'noon' is no time"]),
        (
            "timestamp,prompt_tokens,completion_tokens\n5,1,2\n,1,2\n7,1,2\n",
            ["log.csv:3", "has no time, as 2 of 3 lines have", "remove the line"],
        ),
        ("timestamp,prompt_tokens,completion_tokens\n5,1,2\n1e18,1,2\n", ["log.csv:3", "timestamp = '1e18' is no time"]),
        ("timestamp,prompt_tokens,completion_tokens\nnan,1,2\n", ["log.csv:2", "timestamp = 'nan' is no time"]),
        ("timestamp,prompt_tokens,completion_tokens\n-5,1,2\n", ["log.csv:2", "timestamp = '-5' is no time"]),
        (f'{{"timestamp": {10**400}, "prompt_tokens": 1, "completion_tokens": 2}}\n', ["log.csv:1", "is no time"]),
        ("prompt_tokens,completion_tokens\n10,0\n10,0\n", ["has no completion tokens"]),
        ('{"prompt_tokens": 1, "completion_tokens": 2}\n{oops\n', ["log.csv:2", "not JSON"]),
        ("", ["has no request"]),
    ],
)
def test_one_bad_line_is_one_clear_message(tmp_path: Path, text: str, said: list[str]) -> None:
    """The line, field and value are named, and nothing is written."""
    with pytest.raises(InputError) as caught:
        convert(write(tmp_path, text), tmp_path / "out", "x")
    assert all(word in str(caught.value) for word in said), caught.value
    assert not (tmp_path / "out").exists()


def test_a_profile_that_stands_already_is_not_replaced(tmp_path: Path) -> None:
    """Importing never overwrites an earlier profile."""
    log = week_of_csv(tmp_path)
    convert(log, tmp_path / "out", "x")
    with pytest.raises(InputError, match="stands here already"):
        convert(log, tmp_path / "out", "x")
