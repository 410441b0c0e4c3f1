"""Each rule of validity, both ways: a run that breaks just that rule, and one that does not."""

import pytest

from bench.validity import reasons
from contracts.bench_spec import BenchSpec, LengthSpec, SloSpec, WorkloadSpec
from tests.breakeven.summaries import point

BENCH = BenchSpec(
    workload=WorkloadSpec(prompt=LengthSpec(mean_tokens=10), output=LengthSpec(mean_tokens=10)),
    slo=SloSpec(percentile=90, ttft_s=1.0, tpot_s=0.1),
)
PEAK, GOOD = point(0, None, 300, 2.0, met=None), point(1, 1.0, 200, 0.3, met=True)


def rules(peak=PEAK, good=GOOD, wrong=0.0, drift=0.0):
    return [r.rule for r in reasons([peak, good], good, BENCH, wrong, drift)]


def test_a_run_that_breaks_no_rule_is_valid():
    assert rules() == []


@pytest.mark.parametrize(
    ("change", "just_within", "rule"),
    [
        ({"lag_p99_s": 0.11}, {"lag_p99_s": 0.09}, "client lag"),
        ({"generator_cpu_share": 0.9}, {"generator_cpu_share": 0.8}, "generator saturated"),
        ({"token_disagreement": 0.006}, {"token_disagreement": 0.004}, "token counts disagree (usage, engine counters)"),
        ({"prefix_hit_rate": 0.05}, {"prefix_hit_rate": 0.01}, "prefix-cache hits above what the workload declares"),
        ({"failed": 2}, {"failed": 1}, "error rate"),
    ],
)
def test_a_point_that_breaks_one_rule_is_named_by_it(change, just_within, rule):
    assert rules(good=GOOD.model_copy(update=change)) == [rule]
    assert rules(good=GOOD.model_copy(update=just_within)) == []


def test_wrong_output_lengths_invalidate():
    assert rules(wrong=0.01) == ["output lengths differ from the request"]
    assert rules(wrong=0.004) == []


def test_no_steady_state_invalidates():
    assert rules(drift=0.31) == ["no steady state at saturation"]
    assert rules(drift=0.29) == []


def test_nothing_completed_invalidates():
    assert rules(peak=PEAK.model_copy(update={"succeeded": 0})) == ["nothing completed"]


def test_a_search_without_enough_samples_anywhere_invalidates():
    few = GOOD.model_copy(update={"slo_met": None})
    assert [r.rule for r in reasons([PEAK, few], None, BENCH, 0, 0)] == [
        "too few samples for the SLO's percentile in every probe"
    ]
    failing = GOOD.model_copy(update={"slo_met": False})
    assert reasons([PEAK, failing], None, BENCH, 0, 0) == ()
