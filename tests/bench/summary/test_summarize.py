"""What a summary makes of the raw records: token counts held against each other, the prefix cache, what went unchecked."""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import records
from tests.bench.rows import row
from tokenhour.bench.cli import _print
from tokenhour.bench.statistics.rate_search import Bracket
from tokenhour.bench.summary.capacity import bracket_of, ends, with_point
from tokenhour.bench.summary.load_point import load_point
from tokenhour.bench.summary.run_facts import Subject
from tokenhour.bench.summary.summarize import Raw, summarize
from tokenhour.bench.telemetry.series import Telemetry
from tokenhour.contracts.config.bench import BenchSpec
from tokenhour.contracts.errors import RunFailedError
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.probe import CpuPriority, EngineCounters, Probe, Probes
from tokenhour.contracts.records.request import RequestRow
from tokenhour.contracts.records.summary import LoadPoint, Summary
from tokenhour.contracts.records.telemetry import TelemetryRow

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


def probe(before: EngineCounters = ZERO, after: EngineCounters = COUNTED) -> Probe:
    """Return the record of a probe with these counters."""
    return Probe(
        probe=0, phase="fixed", arrivals="poisson", offered_rps=10, concurrency=None, started_s=0, window_start_s=0,
        window_s=10, drained_s=11, stopped_early=False, before=before, after=after,
    )  # fmt: skip


def point(rows: Sequence[RequestRow] = ROWS, before: EngineCounters = ZERO, after: EngineCounters = COUNTED) -> LoadPoint:
    """Return the load point of these rows."""
    return load_point(probe(before, after), rows, Telemetry(), BENCH)


def summary(
    rows: Sequence[RequestRow] = ROWS,
    before: EngineCounters = ZERO,
    after: EngineCounters = COUNTED,
    telemetry: Iterable[TelemetryRow] = (),
    kind: str = "cpu",
    interrupted: str | None = None,
    **about: Any,
) -> Summary:
    """Summarize one probe of these raw records."""
    probes = Probes(
        clock_anchor_utc=records.WHEN, clock_zero_monotonic_s=0, salt="s", probes=(probe(before, after),), wanted="fixed",
        interrupted=interrupted,
    )  # fmt: skip
    machine = Accelerator(kind=kind, name="", count=1, memory_bytes=0)
    subject = Subject("run", "none", "model", "engine", machine, 1, BENCH, **about)
    return summarize(subject, Raw(probes, rows, tuple(telemetry)), {})


def rules(found: Summary) -> list[str]:
    """Return the rules that a summary says were broken."""
    return [r.rule for r in found.reasons]


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


def test_a_failed_request_leaves_the_counters_uncompared_and_the_summary_says_so() -> None:
    """Unknown tokens of failed requests make no disagreement, but the reader learns that nothing was checked."""
    failed = [*ROWS[1:], row(0.0, outcome="timeout")]
    assert point(failed).token_disagreement is None
    said = "no probe that bears the result could be held against the engine's token counters"
    assert any(w.startswith(said) for w in summary(failed).warnings)
    assert not any(w.startswith(said) for w in summary().warnings)


def test_an_endpoint_without_counters_is_noted_once_by_its_own_record() -> None:
    """The summary does not repeat a warning that the endpoint's record gives."""
    found = summary(before=EngineCounters(), after=EngineCounters(), engine_counters=False, notes=("no engine metrics",))
    assert not any("token counters" in w for w in found.warnings)


def with_cached(*cached: int | None) -> list[RequestRow]:
    """Make rows of 20 prompt tokens each, so many of which came from the cache by their usage."""
    return [replace(r, cached_tokens=c) for r, c in zip(ROWS, cached * (100 // len(cached)), strict=True)]


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


def test_hits_that_only_the_usage_tells_invalidate_above_what_was_declared() -> None:
    """Undeclared cache hits make prompts cheaper than the workload says, by whichever source."""
    hits = "prefix-cache hits above what the workload declares"
    assert hits in rules(summary(with_cached(4)))
    assert hits not in rules(summary(with_cached(0)))


def test_a_hit_rate_that_nobody_tells_is_said_to_be_unchecked() -> None:
    """A cache that is off or reported needs no warning; one that nobody reports does."""
    unchecked = "neither engine counters nor usage say what the prefix cache found: its hit rate was not checked"
    assert unchecked in summary().warnings
    assert unchecked not in summary(with_cached(0)).warnings
    off = {name: EngineCounters(prefix_queries=0, prefix_hits=0) for name in ("before", "after")}
    assert unchecked not in summary(**off).warnings


def samples(source: str, metric: str, values: Iterable[float], index: str = "") -> list[TelemetryRow]:
    """Make a sample a second from 0 on."""
    return [TelemetryRow(float(t), source, index, metric, float(v)) for t, v in enumerate(values)]


GPU = samples("gpu", "throttle_reasons", [0] * 12, "0")


def test_what_the_driver_told_of_a_gpu_is_in_the_verdict() -> None:
    """Xid errors, lost GPUs and throttling invalidate the run, each named once."""

    def found(*more: TelemetryRow, rows: list[TelemetryRow] = GPU) -> list[tuple[str, str]]:
        return [(r.rule, r.measured) for r in summary(telemetry=[*rows, *more], kind="cuda", gpus_read=True).reasons]

    assert found() == []
    xid = TelemetryRow(3.0, "gpu", "1", "xid", 79.0)
    assert found(xid, xid) == [("a GPU reported an error (Xid)", "Xid 79 of GPU 1")]
    assert found(TelemetryRow(3.0, "gpu", "1", "lost", 1.0)) == [("a GPU was lost", "GPU 1")]
    slow = samples("gpu", "throttle_reasons", [0] * 9 + [0x20] * 3, "0")
    assert found(rows=slow) == [("GPU clock throttled", "18% of the samples")]


def test_telemetry_that_ended_leaves_no_valid_run_on_a_gpu() -> None:
    """Its process died after 3 s: what happened to the GPU from then on, nobody knows."""
    missing = ["GPU telemetry is missing"]
    assert rules(summary(telemetry=GPU[:4], kind="cuda", gpus_read=True)) == missing
    assert rules(summary(telemetry=(), kind="cuda", gpus_read=True)) == missing
    other = samples("gpu", "power_w", [9] * 4, "1")
    assert rules(summary(telemetry=[*GPU, *other], kind="cuda", gpus_read=True)) == missing
    gone = [*other, TelemetryRow(4.0, "gpu", "1", "lost", 1.0)]
    assert rules(summary(telemetry=[*GPU, *gone], kind="cuda", gpus_read=True)) == ["a GPU was lost"]
    assert rules(summary(telemetry=(), kind="cuda")) == []  # somebody else's server: its notes say so


def test_a_generator_whose_cpu_nobody_measured_is_noted() -> None:
    """Without CPU samples over the window its saturation would go unnoticed."""
    said = "the CPU use of the load generator was not measured in probe 0: its saturation would not be noticed"
    used = samples("generator", "cpu_s_total", [0.1 * t for t in range(12)])
    assert said not in summary(telemetry=used).warnings
    assert said in summary(telemetry=used[:5]).warnings
    assert said in summary().warnings


def test_what_requests_got_otherwise_than_asked_for_is_in_the_verdict() -> None:
    """Lengths are compared request by request, so that errors cannot cancel out."""
    short = [replace(ROWS[0], output_tokens_requested=9), *ROWS[1:]]
    assert rules(summary(short)) == ["output lengths differ from the request"]
    assert rules(summary(short, exact_output=False)) == []
    # One token more here and one less there: in sum all is as it was asked for.
    turned = [replace(r, prompt_tokens=r.prompt_tokens + (-1) ** k) for k, r in enumerate(ROWS)]
    assert rules(summary(turned)) == ["prompt lengths differ from the request"]
    assert rules(summary(turned, exact_prompts=False)) == []
    assert rules(summary([replace(ROWS[0], prompt_tokens=21), *ROWS[1:]], after=EngineCounters())) == []


def test_halves_that_differ_are_in_the_verdict() -> None:
    """A drifting window is no steady state, and an interrupted run says so first."""
    assert rules(summary([r for k, r in enumerate(ROWS) if k < 50 or k % 2])) == [
        "token counts disagree (usage, engine counters, request cap)",
        "no steady state at saturation",
    ]
    assert rules(summary(interrupted="interrupted"))[0] == "the run did not end by itself"


SERVES = samples("process", "cpu_s_total", range(12))
RAPL = samples("host", "energy_j", range(100, 1300, 100), "0")


def test_the_energy_of_a_cpu_engine_is_that_of_its_host() -> None:
    """Without a GPU the host's counter gives energy per token."""
    found = summary(telemetry=[*SERVES, *RAPL])
    assert found.load_curve[0].energy_j == pytest.approx(1000)
    assert found.energy_j_per_output_token == pytest.approx(1000 / 500, rel=0.02)
    assert not any("energy" in w for w in found.warnings)


@pytest.mark.parametrize(
    ("telemetry", "kind"),
    [
        (RAPL, "cpu"),
        (RAPL, "cuda"),
        ([*SERVES, *RAPL, *GPU], "cuda"),
        ([*SERVES, *samples("host", "energy_j", [*range(100, 600, 100), *range(0, 700, 100)], "0")], "cpu"),
        ([*GPU, *samples("gpu", "energy_j", [100, 200, 300, 0, *range(0, 800, 100)], "0")], "cuda"),
        ([*SERVES, *RAPL, *samples("host", "energy_j", range(3), "1")], "cpu"),
    ],
    ids=[
        "a server elsewhere", "a GPU server elsewhere", "a GPU without a counter", "the counter ran over",
        "the GPU's counter began anew", "one of two counters ended",
    ],
)  # fmt: skip
def test_energy_that_is_another_machines_or_unknown_is_none(telemetry: list[TelemetryRow], kind: str) -> None:
    """Rather no energy figure, with a warning, than one of the wrong machine or a wrapped counter."""
    found = summary(telemetry=telemetry, kind=kind)
    assert found.load_curve[0].energy_j is None
    assert found.energy_j_per_output_token is None
    assert any(w.startswith("energy was not measured") for w in found.warnings)


def searched(*points: tuple[float, bool | None]) -> tuple[float | None, float | None]:
    """Return the ends that a search's summary states for (rate, met, stopped early)."""
    one = point()
    made = [
        one.model_copy(
            update={
                "probe": k, "phase": "search", "offered_rps": rate, "slo_met": met, "stable": met is True,
                "missed_share": 0.1 if met else 0.9,
            }
        )
        for k, (rate, met) in enumerate(points)
    ]  # fmt: skip
    best, failing = ends("search", made, BENCH.slo)
    live = Bracket(0.0)
    for one in made:
        live = with_point(live, one, BENCH.slo)
    assert bracket_of(made, BENCH.slo) == live
    return (best.offered_rps if best else None), failing


def test_a_search_is_judged_in_its_summary_as_it_judged_itself() -> None:
    """Deriving the summary again gives the ends that the live search stopped at."""
    assert searched((10, True), (12, False)) == (10, 12)
    assert searched((10, True), (12, None)) == (10, None)  # not seen to fail: too few samples
    assert searched((10, True), (14, False), (12, None)) == (10, 14)
    assert searched((10, False), (7, None)) == (None, 10)


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


@pytest.mark.parametrize("gate", ["PASS", "FAIL", "none"])
def test_the_gates_verdict_stands_in_the_summary_and_is_printed(
    gate: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user reads the quality gate beside the speed, and nothing where there is no gate."""
    found = summary(quality_gate=gate)
    assert found.quality_gate == gate
    with contextlib.suppress(RunFailedError):  # said after it, of an INVALID one
        _print(found, tmp_path)
    assert ("quality gate" in capsys.readouterr().out) == (gate != "none")


def test_a_window_of_few_answers_says_how_sure_its_stability_is() -> None:
    """100 arrivals in 10 s: answers of 4 s leave twice their spread, of 0.14 s next to nothing."""
    (said,) = [w for w in summary([row(k * 0.1, gap=0.975) for k in range(-60, 140)]).warnings if "answers long" in w]
    assert said.startswith("the window at the SLO is 2.5 answers long: that the queue did not grow is sure to 23% ")
    assert not [w for w in summary().warnings if "answers long" in w]


def test_lengths_are_those_of_the_windows() -> None:
    """A closed loop's first answers are cut short in the lead-in; the economics price the workload."""
    before = [row(-1.0, tokens=1), row(-0.5, tokens=2)]
    assert summary([*before, *ROWS]).mean_output_tokens == summary().mean_output_tokens == 5


def test_a_disturbed_probe_that_was_measured_again_bears_no_figure_and_stays_in_the_summary() -> None:
    """The repeat counts; the disturbed probe is kept with its reason, and its time is charged."""
    first, again = probe(), probe().model_copy(update={"probe": 1, "instead_of": 0})
    late_rows = [replace(r, sent_s=r.scheduled_s + 0.5) for r in ROWS]
    rows = [*late_rows, *(replace(r, probe=1) for r in ROWS)]
    probes = Probes(
        clock_anchor_utc=records.WHEN, clock_zero_monotonic_s=0, salt="s", probes=(first, again), wanted="fixed",
        interrupted=None, cpu_priority=CpuPriority(action="neither", decided_by="cgroup", why="/x/cpu.weight: Read-only"),
    )  # fmt: skip
    machine = Accelerator(kind="cpu", name="", count=1, memory_bytes=0)
    subject = Subject("run", "none", "model", "engine", machine, 1, BENCH)
    found = summarize(subject, Raw(probes, rows, ()), {})
    assert ([p.probe for p in found.load_curve], [p.probe for p in found.disturbed]) == ([1], [0])
    assert found.reasons == ()
    assert any(w.startswith("probe 0 was disturbed and measured again: client lag: p99 0.500 s (") for w in found.warnings)
    assert any("could not be put before it (/x/cpu.weight: Read-only)" in w for w in found.warnings)
    assert found.cpu_priority.action == "neither"
    assert found.measuring_s == pytest.approx(22)
    alone = summarize(subject, Raw(probes.model_copy(update={"probes": (first,)}), late_rows, ()), {})
    assert "client lag" in rules(alone)
