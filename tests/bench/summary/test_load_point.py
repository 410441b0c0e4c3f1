"""One probe's figures: token counts held against each other, the prefix cache, and a verdict that comes early."""

from dataclasses import replace

import pytest

from tests.bench.rows import row
from tests.bench.summary.conftest import BENCH, ROWS, point, probe, rules, summary, with_cached
from tokenhour.bench.summary.load_point import load_point
from tokenhour.bench.telemetry.series import Telemetry
from tokenhour.contracts.records.probe import EngineCounters
from tokenhour.contracts.records.summary import LoadPoint


def test_usage_is_held_against_the_engines_counters() -> None:
    """The disagreement is the relative difference to what the engine itself counted."""
    assert point().token_disagreement == 0
    more = EngineCounters(prompt_tokens=2000, generation_tokens=510)
    assert point(after=more).token_disagreement == pytest.approx(10 / 510)


def test_usage_above_what_a_request_allowed_is_a_disagreement_even_where_nothing_else_can_be_compared() -> None:
    """A server that bills more tokens than max_tokens is caught without counters."""
    over = [*ROWS[1:], replace(ROWS[0], output_tokens_requested=1)]
    assert point(over).token_disagreement == pytest.approx(4 / 500)
    assert point(over, EngineCounters(), EngineCounters()).token_disagreement == pytest.approx(4 / 500)
    assert "token counts disagree (usage, engine counters, request cap)" in rules(summary(over, exact_output=False))
    short = [*ROWS[1:], replace(ROWS[0], output_tokens_requested=9)]
    assert point(short).token_disagreement == 0


def test_prefix_hits_are_the_engines_own_where_it_counts_them() -> None:
    """The engine's counters, as a difference over the probe, win over the usage."""
    before = EngineCounters(prefix_queries=100, prefix_hits=10)
    after = EngineCounters(prefix_queries=1100, prefix_hits=260)
    assert point(with_cached(4), before, after).prefix_hit_rate == pytest.approx(0.25)


def test_prefix_hits_are_those_of_the_usage_where_the_engine_counts_none() -> None:
    """Cached tokens of successful requests that report them give the rate."""
    assert point(with_cached(4)).prefix_hit_rate == pytest.approx(0.2)
    assert point(with_cached(8, None)).prefix_hit_rate == pytest.approx(0.2)
    assert point(with_cached(0)).prefix_hit_rate == 0
    failed = [replace(row(99.0, outcome="timeout"), cached_tokens=20, prompt_tokens=20)]
    assert point(with_cached(4) + failed).prefix_hit_rate == pytest.approx(0.2)


def test_a_probe_that_was_stopped_because_most_requests_failed_has_failed() -> None:
    """20 of 1,000 planned requests: what the others would do is not certain, and nobody waits for it."""

    def judged(outcome: str) -> LoadPoint:
        rows = [row(k * 0.1, outcome=outcome if k % 3 else "success") for k in range(30)]
        early = probe().model_copy(
            update={"stopped_early": True, "planned_requests": 1000, "planned_window_s": 100.0, "window_s": 3.0}
        )
        return load_point(early, rows, Telemetry(), BENCH)

    failed = judged("http_error")
    assert failed.slo_met is False
    assert failed.slo_reasons == ("stopped early: most requests failed",)
    assert judged("success").slo_met is None


def test_answers_of_a_single_chunk_are_counted_beside_tpot() -> None:
    """The point tells how many answers its TPOT leaves out."""
    found = point([row(0.0), row(1.0, tokens=1)])
    assert (found.tpot.samples, found.tpot_left_out) == (1, 1)
