"""The shape of demand, from a profile or an hourly trace."""

from pathlib import Path

import pytest

from tests.breakeven.scenarios import DAY, MONTH, decide, scenario
from tokenhour.contracts.errors import InputError


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


@pytest.mark.parametrize("text", ["tokens\n", "tokens\n1\n-2\n", "tokens\n1\nnan\n", "tokens\n0\n0\n", "volume\n1\n"])
def test_a_bad_trace_is_named_with_its_line(tmp_path: Path, text: str) -> None:
    """An unusable trace is rejected with its path and a remedy."""
    trace = tmp_path / "trace.csv"
    trace.write_text(text)
    with pytest.raises(InputError) as caught:
        decide(scenario(profile={"trace": str(trace)}))
    assert str(trace) in caught.value.where
    assert caught.value.remedy
