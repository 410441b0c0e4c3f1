"""Lengths and prompts come from seeds; a salt keeps runs apart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.bench.workload.conftest import write
from tokenhour.bench.workload.sampling import PromptSource, asks, check, expected_hit_rate, lengths, most_inside, source
from tokenhour.contracts.config.bench import (
    ArrivalSpec,
    BenchSpec,
    Conversations,
    LengthSpec,
    RequestsFile,
    SharedPrefix,
    SloSpec,
    WorkloadSpec,
)
from tokenhour.contracts.errors import InputError

TEXT = np.arange(1000, 6000)
SOURCE = PromptSource(TEXT)
SPEC = WorkloadSpec(
    prompt=LengthSpec(distribution="uniform", mean_tokens=50, min_tokens=20, max_tokens=80), output=LengthSpec(mean_tokens=8)
)


@given(st.floats(1, 500), st.floats(0, 2))
def test_lognormal_lengths_stay_inside_their_limits(mean: float, cv: float) -> None:
    """No draw exceeds the stated limits, so that none overruns the model's context."""
    spec = LengthSpec(distribution="lognormal", mean_tokens=mean, cv=cv, min_tokens=1, max_tokens=600)
    drawn = lengths(spec, 200, np.random.default_rng(0))
    assert drawn.min() >= 1
    assert drawn.max() <= 600


def test_lognormal_lengths_have_the_stated_mean() -> None:
    """The parameters are those of the lengths themselves, not of their logarithms."""
    spec = LengthSpec(distribution="lognormal", mean_tokens=300, cv=0.5)
    assert lengths(spec, 50_000, np.random.default_rng(0)).mean() == pytest.approx(300, rel=0.02)


def test_uniform_lengths_have_the_stated_mean_and_reach_both_ends() -> None:
    """Both limits can be drawn."""
    drawn = lengths(SPEC.prompt, 20_000, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(50, abs=0.5)
    assert (drawn.min(), drawn.max()) == (20, 80)


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ({}, "min_tokens and max_tokens"),
        ({"max_tokens": 255}, "wants min_tokens"),
        ({"min_tokens": 32, "max_tokens": 400}, "not the middle of 32 and 400: write 216"),
    ],
)
def test_uniform_lengths_without_ends_around_their_mean_are_refused(ends: dict[str, Any], said: str) -> None:
    """A mean alone drew up to a million tokens."""
    with pytest.raises(ValidationError, match=said):
        LengthSpec(distribution="uniform", mean_tokens=128, **ends)


@pytest.mark.parametrize(("low", "high"), [(1, 255), (1, 254), (2, 255)])
def test_a_middle_between_two_tokens_may_be_rounded(low: int, high: int) -> None:
    """A stated mean within half a token of the middle is accepted."""
    assert LengthSpec(distribution="uniform", mean_tokens=128, min_tokens=low, max_tokens=high).mean_tokens == 128


def test_what_a_prefix_cache_can_find_is_known_beforehand() -> None:
    """The expected hit rate lets validity notice hits that the plan does not explain."""
    assert expected_hit_rate(SPEC, asks(SPEC, SOURCE, 1, 50)) == 0
    fixed = WorkloadSpec(
        prompt=LengthSpec(mean_tokens=100), output=LengthSpec(mean_tokens=8), shared_prefix=SharedPrefix(tokens=50)
    )
    assert expected_hit_rate(fixed, asks(fixed, SOURCE, 1, 50)) == pytest.approx(0.49)


def replayed(folder: Path, text: str) -> BenchSpec:
    """Return a bench section that replays this trace."""
    (folder / "trace.csv").write_text(text)
    return BenchSpec(
        workload=WorkloadSpec(requests=RequestsFile(file=str(folder / "trace.csv"))),
        arrivals=ArrivalSpec(process="trace"),
        slo=SloSpec(percentile=90, ttft_s=1),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prompt_tokens,completion_tokens\n1,2\n", "wants workload.requests with timestamps"),
        ("prompt_tokens,completion_tokens,timestamp_s\n1,2,5\n1,2,5\n", "all have the same time"),
        ("prompt_tokens,completion_tokens,timestamp_s\n1,2,5\n", "all have the same time"),
    ],
    ids=["no times", "one time", "one request"],
)
def test_a_trace_without_a_pattern_in_time_is_refused_before_any_server_is_asked(
    tmp_path: Path, text: str, said: str
) -> None:
    """Replaying needs at least two different times."""
    with pytest.raises(InputError, match=said):
        check(replayed(tmp_path, text))


def test_a_trace_with_times_is_taken(tmp_path: Path) -> None:
    """Two different times are enough."""
    check(replayed(tmp_path, "prompt_tokens,completion_tokens,timestamp_s\n1,2,5\n1,2,6\n"))


def test_what_a_window_can_hold_of_a_plan_counts_every_turn_of_its_conversations() -> None:
    """Three conversations of 5 turns: one in the lead-in, one inside the window [1, 11), one behind it."""
    spec = SPEC.model_copy(update={"conversations": Conversations(turns=5)})
    planned = asks(spec, SOURCE, 1, np.array([0.5, 5.0, 11.0]))
    assert most_inside(planned, 0.0, 1.0, 11.0) == 4 + 5
    assert most_inside(planned, 4.0, 1.0, 11.0) == 2 + 2  # at 4.5 and 8.5, at 5 and 9: later turns are beyond the end
    single = asks(SPEC, SOURCE, 1, np.array([0.5, 1.0, 5.0, 11.0]))
    assert most_inside(single, 0.0, 1.0, 11.0) == 2


def test_the_lines_that_a_trace_leaves_out_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Failed requests are no workload; their number is reported."""
    file = write(tmp_path, "prompt_tokens,completion_tokens\n10,5\n0,0\n10,0\n")
    found = source(WorkloadSpec.model_validate({"requests": {"file": str(file)}}), np.arange(10))
    assert found.trace.skipped == 2
    assert "left out lines of zero tokens (failed requests): 2" in capsys.readouterr().err
