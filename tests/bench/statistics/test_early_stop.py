"""A probe is stopped only when nothing that is still to come can change its outcome."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tests.bench.rows import row
from tokenhour.bench.statistics import metrics
from tokenhour.bench.statistics.early_stop import certain_to_miss, hopeless
from tokenhour.bench.statistics.slo import may_miss, slo_reasons
from tokenhour.bench.workload.sampling import PromptSource, asks, most_inside
from tokenhour.contracts.config.bench import Conversations, LengthSpec, SloSpec, WorkloadSpec

SLO = SloSpec(percentile=90, ttft_s=1.0)


def test_one_in_ten_may_miss_a_p90() -> None:
    """A probe is certain to fail with the first miss beyond what the percentile allows."""
    assert may_miss(100, 90) == 10
    rows = [row(float(k), ttft=2.0) for k in range(11)]
    assert certain_to_miss(rows, 100, SLO)
    assert not certain_to_miss(rows[:10], 100, SLO)


def test_of_conversations_every_turn_counts_for_what_may_miss() -> None:
    """20 conversations of 5 turns: 4 of 100 requests do not miss a p90, though 4 of 20 conversations would."""
    spec = WorkloadSpec(
        prompt=LengthSpec(mean_tokens=10), output=LengthSpec(mean_tokens=10), conversations=Conversations(turns=5)
    )
    planned = most_inside(asks(spec, PromptSource(np.arange(1000)), 1, np.arange(20.0)), 0.0, 0.0, 20.0)
    missed = [row(float(k), ttft=2.0) for k in range(11)]
    assert not certain_to_miss(missed[:4], planned, SLO)
    assert certain_to_miss(missed, planned, SLO)


@given(st.lists(st.floats(0.1, 3.0), min_size=64, max_size=200), st.data())
def test_whatever_is_certain_comes_true(latencies: list[float], data: st.DataObject) -> None:
    """Stopping early never changes the verdict that the whole probe would have had."""
    rows = [row(float(k), ttft=t) for k, t in enumerate(latencies)]
    seen = data.draw(st.integers(0, len(rows)))
    if certain_to_miss(rows[:seen], len(rows), SLO):
        assert slo_reasons(metrics.latencies(rows), SLO)[0] is False


def test_failures_miss_every_bound_and_what_was_let_go_misses_none() -> None:
    """Failed requests count against the SLO; requests that we cancelled ourselves do not."""
    failed = [row(float(k), outcome="timeout") for k in range(11)]
    assert certain_to_miss(failed, 100, SLO)
    assert not certain_to_miss([row(float(k), outcome="cancelled") for k in range(50)], 100, SLO)


@pytest.mark.parametrize(("good", "bad", "expected"), [(9, 11, True), (10, 10, False), (2, 17, False)])
def test_a_server_that_refuses_most_requests_is_hopeless(good: int, bad: int, expected: bool) -> None:
    """From 20 requests on, a majority of failures ends the probe."""
    rows = [row(float(k)) for k in range(good)] + [row(99.0 + k, outcome="http_error") for k in range(bad)]
    assert hopeless(rows) is expected
