"""Each rule of validity, both ways: a run that breaks just that rule, and one that does not."""

from typing import Any

import pytest

from tests.breakeven.summaries import point
from tokenhour.bench.summary.validity import Facts, reasons
from tokenhour.contracts.config.bench import ArrivalSpec, BenchSpec, Conversations, LengthSpec, SloSpec, WorkloadSpec
from tokenhour.contracts.records.summary import LoadPoint

BENCH = BenchSpec(
    workload=WorkloadSpec(prompt=LengthSpec(mean_tokens=10), output=LengthSpec(mean_tokens=10)),
    slo=SloSpec(percentile=90, ttft_s=1.0, tpot_s=0.1),
)
PEAK = point(0, None, 300, 2.0, met=None)
GOOD = point(1, 1.0, 200, 0.3, met=True).model_copy(update={"window_s": 100.0})  # and 100 requests in it


def rules(peak: LoadPoint = PEAK, good: LoadPoint = GOOD, **facts: Any) -> list[str]:
    """Return the broken rules of a run with these points and facts."""
    return [r.rule for r in reasons([peak, good], good, BENCH, Facts(**facts))]


def test_a_run_that_breaks_no_rule_is_valid() -> None:
    """The good run behind the other tests has no reason of its own."""
    assert rules() == []


@pytest.mark.parametrize(
    ("change", "just_within", "rule"),
    [
        ({"lag_p99_s": 0.11}, {"lag_p99_s": 0.09}, "client lag"),
        ({"generator_cpu_share": 0.9}, {"generator_cpu_share": 0.8}, "generator saturated"),
        (
            {"token_disagreement": 0.006},
            {"token_disagreement": 0.004},
            "token counts disagree (usage, engine counters, request cap)",
        ),
        ({"prefix_hit_rate": 0.05}, {"prefix_hit_rate": 0.01}, "prefix-cache hits above what the workload declares"),
        ({"failed": 2}, {"failed": 1}, "error rate"),
    ],
)
def test_a_point_that_breaks_one_rule_is_named_by_it(change: dict[str, Any], just_within: dict[str, Any], rule: str) -> None:
    """Each limit invalidates just above it and not just below."""
    assert rules(good=GOOD.model_copy(update=change)) == [rule]
    assert rules(good=GOOD.model_copy(update=just_within)) == []


@pytest.mark.parametrize(
    ("declared", "expected", "found", "broken"),
    [(0.5, 0.4, 0.41, False), (0.5, 0.4, 0.45, True), (0.5, None, 0.45, False), (0.1, 0.4, 0.3, True)],
    ids=["all that repeats", "more than repeats", "nobody counted", "more than declared"],
)
def test_prefix_hits_are_held_against_what_was_declared_and_what_the_plan_repeats(
    declared: float, expected: float | None, found: float, broken: bool
) -> None:
    """Hits beyond the lower of declaration and plan mean that something else was cached."""
    workload = BENCH.workload.model_copy(update={"declared_prefix_hit_rate": declared})
    one = GOOD.model_copy(update={"prefix_hit_rate": found, "expected_prefix_hit_rate": expected})
    said = reasons([PEAK, one], one, BENCH.model_copy(update={"workload": workload}), Facts())
    assert [r.rule for r in said] == ["prefix-cache hits above what the workload declares"] * broken


def test_an_xid_invalidates_with_its_code_and_gpu() -> None:
    """The reader can look the code up and knows which GPU to inspect."""
    (said,) = reasons([PEAK, GOOD], GOOD, BENCH, Facts(xids=("79 of GPU 1",)))
    assert (said.rule, said.measured) == ("a GPU reported an error (Xid)", "Xid 79 of GPU 1")


def test_wrong_output_lengths_invalidate() -> None:
    """More than 0.5% of other lengths is another workload than the one stated."""
    assert rules(wrong_lengths=0.01) == ["output lengths differ from the request"]
    assert rules(wrong_lengths=0.004) == []


def test_no_steady_state_invalidates() -> None:
    """Throughput that drifts beyond its limit is no rate to calculate costs from."""
    assert rules(drift=0.31) == ["no steady state at saturation"]
    assert rules(drift=0.29) == []


def test_nothing_completed_invalidates() -> None:
    """A peak without a single answer is no measurement."""
    assert rules(peak=PEAK.model_copy(update={"succeeded": 0})) == ["nothing completed"]


def test_a_search_or_sweep_without_an_open_loop_probe_invalidates() -> None:
    """A capacity needs at least one probe with a rate; a fixed load does not."""
    for kind in ("search", "sweep"):
        assert [r.rule for r in reasons([PEAK], None, BENCH, Facts(kind=kind))] == ["no open-loop probe"]
    assert reasons([PEAK], None, BENCH, Facts(kind="fixed")) == ()


def test_a_search_without_enough_samples_anywhere_invalidates() -> None:
    """A capacity that no probe could judge is told apart from one that is too low."""
    few = GOOD.model_copy(update={"slo_met": None})
    assert [r.rule for r in reasons([PEAK, few], None, BENCH, Facts())] == [
        "too few samples for the SLO's percentile in every probe"
    ]
    failing = GOOD.model_copy(update={"slo_met": False})
    assert reasons([PEAK, failing], None, BENCH, Facts()) == ()


def test_prompt_lengths_that_the_server_counts_otherwise_invalidate() -> None:
    """Another tokenizer than the server's would charge for other prompts."""
    assert rules(wrong_prompts=0.006) == ["prompt lengths differ from the request"]
    assert rules(wrong_prompts=0.004) == []


@pytest.mark.parametrize(("share", "found"), [(0.06, ["GPU clock throttled"]), (0.04, []), (None, [])])
def test_a_throttled_gpu_invalidates_the_probes_that_bear_the_result(share: float | None, found: list[str]) -> None:
    """Throttling above 5% of the samples counts only in probes behind the figures."""
    assert rules(throttled={1: share}) == found
    assert rules(throttled={7: share}) == []


def test_a_load_above_the_certificate_invalidates() -> None:
    """Beyond the calibrated ceiling the generator's times are not known to be right."""
    loaded = GOOD.model_copy(update={"chunks_per_s": 1001.0})
    above = ["load above the generator's certificate"]
    assert rules(good=loaded, ceiling_chunks_per_s=1000.0) == above
    assert rules(good=loaded, ceiling_chunks_per_s=1002.0) == []
    assert rules(ceiling_requests_per_s=4.9) == above
    assert rules(ceiling_requests_per_s=5.1) == []


def test_a_rate_above_saturation_invalidates() -> None:
    """The capacity must be stable and at most 5% above what the saturated server completed."""
    rule = ["offered rate above saturation"]
    assert rules(good=GOOD.model_copy(update={"stable": False})) == rule
    assert rules(good=GOOD.model_copy(update={"offered_rps": 1.05 * PEAK.completed_rps + 0.01})) == rule
    assert rules(good=GOOD.model_copy(update={"offered_rps": 1.05 * PEAK.completed_rps - 0.01})) == []


def windowed(requests: int, bench: BenchSpec = BENCH, **changes: Any) -> list[str]:
    """Return the reasons of 50 requests/s in a window of 20 s that held so many."""
    peak = PEAK.model_copy(update={"completed_rps": 60.0})
    one = GOOD.model_copy(update={"offered_rps": 50.0, "window_s": 20.0, "requests": requests, **changes})
    return [r.rule for r in reasons([peak, one], one, bench, Facts())]


def test_conversations_that_outlast_the_lead_in_leave_the_window_short_of_their_later_turns() -> None:
    """The window must hold the offered number of requests, within three spreads."""
    workload = BENCH.workload.model_copy(update={"conversations": Conversations(turns=4)})
    bench = BENCH.model_copy(update={"workload": workload})
    assert windowed(800, bench) == ["no steady state: conversations outlast warmup_s"]  # of 1,000; three spreads are 190
    assert windowed(820, bench) == []
    assert windowed(2000, bench) == []  # in older records the rate is that of conversations


@pytest.mark.parametrize(("requests", "broken"), [(880, True), (920, False), (1080, False), (1120, True)])
def test_a_window_that_holds_other_arrivals_than_its_rate_says_invalidates(requests: int, broken: bool) -> None:
    """Such as a trace or a day of which the window saw only the busy morning."""
    rule = ["arrivals differ from the offered rate"] * broken
    assert windowed(requests) == rule
    assert windowed(requests, BENCH.model_copy(update={"arrivals": ArrivalSpec(process="trace")})) == rule
    assert windowed(requests, stopped_early=True) == []


def test_the_number_of_bursty_arrivals_may_vary_by_more() -> None:
    """The tolerance follows the arrival process, so that chance alone invalidates nothing."""
    bursty = BENCH.model_copy(update={"arrivals": ArrivalSpec(process="gamma", burstiness=0.25)})
    assert windowed(830, bursty) == []
    assert windowed(800, bursty) == ["arrivals differ from the offered rate"]


def test_a_run_that_did_not_end_by_itself_is_invalid_and_that_is_the_first_reason() -> None:
    """What ended the run explains the other reasons, so it is read first."""
    said = reasons([PEAK, GOOD], GOOD, BENCH, Facts(interrupted="the load generator ended", wrong_lengths=1.0))
    assert [r.rule for r in said] == ["the run did not end by itself", "output lengths differ from the request"]
    assert said[0].measured == "the load generator ended"
    assert rules(interrupted=None) == []


@pytest.mark.parametrize(
    ("blind_s", "broken"), [({}, False), ({1: 0.2}, False), ({1: 24.0}, False), ({1: 26.0}, True), ({7: 100.0}, False)]
)
def test_a_window_in_which_nobody_looked_at_the_gpus_is_invalid(
    blind_s: dict[Any, Any] | dict[str, Any], broken: bool
) -> None:
    """Of 100 s; no entry: there are none to look at."""
    assert rules(blind_s=blind_s) == ["GPU telemetry is missing"] * broken


def test_a_short_window_without_any_sample_of_a_gpu_is_invalid_unless_samples_are_rarer() -> None:
    """A blind GPU could have throttled unseen."""
    short = GOOD.model_copy(update={"window_s": 0.8, "requests": 1})
    rare = BENCH.model_copy(update={"telemetry_hz": 1.0})
    assert [r.rule for r in reasons([PEAK, short], short, BENCH, Facts(blind_s={1: 0.8}))] == ["GPU telemetry is missing"]
    assert reasons([PEAK, short], short, BENCH, Facts(blind_s={1: 0.7})) == ()
    assert reasons([PEAK, short], short, rare, Facts(blind_s={1: 0.8})) == ()


def test_a_rate_that_was_measured_on_request_must_be_a_steady_state_too() -> None:
    """A fixed rate may miss the SLO, but its queue must not grow."""
    point = GOOD.model_copy(update={"phase": "fixed", "stable": False, "slo_met": False})
    assert [r.rule for r in reasons([point], None, BENCH, Facts(kind="fixed"))] == ["offered rate above saturation"]
    steady = point.model_copy(update={"stable": True})
    assert reasons([steady], None, BENCH, Facts(kind="fixed")) == ()


def test_a_lost_gpu_invalidates() -> None:
    """Fewer GPUs served than the cost divides by."""
    assert rules(lost_gpus=("1",)) == ["a GPU was lost"]
    assert rules(lost_gpus=()) == []
