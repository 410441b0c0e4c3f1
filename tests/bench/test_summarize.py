"""What a summary makes of the raw records: token counts held against each other, the prefix cache, what went unchecked."""

import contextlib
from dataclasses import replace

import pytest

from bench.cli import _print
from bench.subject import Subject
from bench.summarize import Raw, Telemetry, load_point, summarize
from contracts.bench_spec import BenchSpec
from contracts.environment import Accelerator
from contracts.errors import RunFailedError
from contracts.probe import EngineCounters, Probe, Probes
from tests import records
from tests.bench.rows import row

BENCH = BenchSpec.model_validate(
    {
        "workload": {"prompt": {"mean_tokens": 20}, "output": {"mean_tokens": 5}},
        "slo": {"percentile": 50, "ttft_s": 1},
        "arrivals": {"rates_rps": [10]},
    }
)
ROWS = [row(k * 0.1) for k in range(100)]
COUNTED = EngineCounters(prompt_tokens=2000, generation_tokens=500)
ZERO = EngineCounters(prompt_tokens=0, generation_tokens=0)


def probe(before=ZERO, after=COUNTED):
    return Probe(
        probe=0, phase="fixed", arrivals="poisson", offered_rps=10, concurrency=None, started_s=0, window_start_s=0,
        window_s=10, drained_s=11, stopped_early=False, before=before, after=after,
    )  # fmt: skip


def point(rows=ROWS, before=ZERO, after=COUNTED):
    return load_point(probe(before, after), rows, Telemetry(), BENCH)


def summary(rows=ROWS, before=ZERO, after=COUNTED, **about):
    probes = Probes(
        clock_anchor_utc=records.WHEN, clock_zero_monotonic_s=0, salt="s", probes=(probe(before, after),), wanted="fixed",
        interrupted=None,
    )  # fmt: skip
    machine = Accelerator(kind="cpu", name="", count=1, memory_bytes=0)
    subject = Subject("run", "none", "model", "engine", machine, 1, BENCH, **about)
    return summarize(subject, Raw(probes, rows, ()), {})


def rules(found):
    return [r.rule for r in found.reasons]


def test_usage_is_held_against_the_engines_counters():
    assert point().token_disagreement == 0
    more = EngineCounters(prompt_tokens=2000, generation_tokens=510)
    assert point(after=more).token_disagreement == pytest.approx(10 / 510)


def test_usage_above_what_a_request_allowed_is_a_disagreement_even_where_nothing_else_can_be_compared():
    over = [*ROWS[1:], replace(ROWS[0], output_tokens_requested=1)]
    assert point(over).token_disagreement == pytest.approx(4 / 500)
    assert point(over, EngineCounters(), EngineCounters()).token_disagreement == pytest.approx(4 / 500)
    assert "token counts disagree (usage, engine counters, request cap)" in rules(summary(over, exact_output=False))
    short = [*ROWS[1:], replace(ROWS[0], output_tokens_requested=9)]
    assert point(short).token_disagreement == 0


def test_a_failed_request_leaves_the_counters_uncompared_and_the_summary_says_so():
    failed = [*ROWS[1:], row(0.0, outcome="timeout")]
    assert point(failed).token_disagreement is None
    said = "no probe that bears the result could be held against the engine's token counters"
    assert any(w.startswith(said) for w in summary(failed).warnings)
    assert not any(w.startswith(said) for w in summary().warnings)


def test_an_endpoint_without_counters_is_noted_once_by_its_own_record():
    found = summary(before=EngineCounters(), after=EngineCounters(), engine_counters=False, notes=("no engine metrics",))
    assert not any("token counters" in w for w in found.warnings)


def with_cached(*cached):
    """Make rows of 20 prompt tokens each, so many of which came from the cache by their usage."""
    return [replace(r, cached_tokens=c) for r, c in zip(ROWS, cached * (100 // len(cached)), strict=True)]


def test_prefix_hits_are_the_engines_own_where_it_counts_them():
    before = EngineCounters(prefix_queries=100, prefix_hits=10)
    after = EngineCounters(prefix_queries=1100, prefix_hits=260)
    assert point(with_cached(4), before, after).prefix_hit_rate == pytest.approx(0.25)


def test_prefix_hits_are_those_of_the_usage_where_the_engine_counts_none():
    assert point(with_cached(4)).prefix_hit_rate == pytest.approx(0.2)
    assert point(with_cached(8, None)).prefix_hit_rate == pytest.approx(0.2)
    assert point(with_cached(0)).prefix_hit_rate == 0
    failed = [replace(row(99.0, outcome="timeout"), cached_tokens=20, prompt_tokens=20)]
    assert point(with_cached(4) + failed).prefix_hit_rate == pytest.approx(0.2)


def test_hits_that_only_the_usage_tells_invalidate_above_what_was_declared():
    hits = "prefix-cache hits above what the workload declares"
    assert hits in rules(summary(with_cached(4)))
    assert hits not in rules(summary(with_cached(0)))


def test_a_hit_rate_that_nobody_tells_is_said_to_be_unchecked():
    unchecked = "neither engine counters nor usage say what the prefix cache found: its hit rate was not checked"
    assert unchecked in summary().warnings
    assert unchecked not in summary(with_cached(0)).warnings
    off = {name: EngineCounters(prefix_queries=0, prefix_hits=0) for name in ("before", "after")}
    assert unchecked not in summary(**off).warnings


def test_answers_of_a_single_chunk_are_counted_beside_tpot():
    found = point([row(0.0), row(1.0, tokens=1)])
    assert (found.tpot.samples, found.tpot_left_out) == (1, 1)


@pytest.mark.parametrize("gate", ["PASS", "FAIL", "none"])
def test_the_gates_verdict_stands_in_the_summary_and_is_printed(gate, tmp_path, capsys):
    found = summary(quality_gate=gate)
    assert found.quality_gate == gate
    with contextlib.suppress(RunFailedError):  # said after it, of an INVALID one
        _print(found, tmp_path)
    assert ("quality gate" in capsys.readouterr().out) == (gate != "none")
