"""The load of an experiment: what cannot be offered as it says is refused, what was measured before a rule is read."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.contracts.config.test_experiment import GOOD, load
from tokenhour.contracts.config.bench import SALT_TOKENS, ArrivalSpec, BenchSpec, WorkloadSpec
from tokenhour.contracts.config.experiment import Experiment

LENGTHS = {"prompt": {"mean_tokens": 64}, "output": {"mean_tokens": 32}}


def test_a_record_of_uniform_lengths_that_would_be_refused_today_stays_readable(tmp_path: Path) -> None:
    """Stricter rules for new files do not lock users out of their older runs."""
    uniform = "prompt: {distribution: uniform, mean_tokens: 64, min_tokens: 32, max_tokens: 96}"
    file = load(tmp_path, GOOD.replace("prompt: {mean_tokens: 64}", uniform)).write(tmp_path)
    file.write_text(file.read_text().replace('"max_tokens": 96', '"max_tokens": 400'))
    assert Experiment.read(tmp_path).bench.workload.prompt.max_tokens == 400


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": None}, "either prompt and output, or requests"),
        ({"requests": {"file": "a.csv"}}, "either prompt and output, or requests"),
        (
            {"prompt": None, "output": None, "requests": {"file": "a.csv"}, "conversations": {"turns": 2}},
            "requests from a file have no shared_prefix and no conversations",
        ),
        ({"shared_prefix": {"tokens": 64}}, f"wants prompts of at least {64 + SALT_TOKENS}"),
        ({"prompt": {"mean_tokens": 64, "min_tokens": 9, "max_tokens": 8}}, "min_tokens 9 is above max_tokens 8"),
        (
            {"output": {"distribution": "lognormal", "mean_tokens": 64, "max_tokens": 32}},
            "mean_tokens is outside",
        ),
    ],
)
def test_a_workload_that_contradicts_itself_is_refused(changes: dict[str, Any], said: str) -> None:
    """Lengths come from one place and can be drawn as they are written."""
    WorkloadSpec.model_validate(LENGTHS)
    with pytest.raises(ValidationError, match=said):
        WorkloadSpec.model_validate(LENGTHS | changes)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"process": "diurnal"}, "diurnal wants hourly_share"),
        ({"process": "closed"}, "closed and concurrency go together"),
        ({"concurrency": [4]}, "closed and concurrency go together"),
        ({"process": "closed", "concurrency": [4], "rates_rps": [1.0]}, "a closed loop has no rate"),
    ],
)
def test_arrivals_say_what_their_process_needs_and_nothing_else(fields: dict[str, Any], said: str) -> None:
    """A rate for a closed loop, or a day without a shape, would measure another load than the file says."""
    with pytest.raises(ValidationError, match=said):
        ArrivalSpec.model_validate(fields)


def test_a_cycle_that_is_longer_than_every_window_is_refused_when_it_is_written_not_when_it_is_read() -> None:
    """A part of a cycle has another rate than the mean one; older records keep theirs."""
    fields = {
        "workload": LENGTHS,
        "slo": {"percentile": 90, "ttft_s": 1},
        "arrivals": {"process": "bursts", "on_s": 50, "off_s": 11},
    }
    with pytest.raises(ValidationError, match="is longer than the longest window"):
        BenchSpec.model_validate(fields)
    assert BenchSpec.model_validate(fields, context={"recorded": True}).arrivals.cycle_s == 61
