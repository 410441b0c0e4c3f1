"""What a summary makes of the raw records: what broke a rule, what energy it took, what was measured again."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests import records
from tests.bench.rows import row
from tests.bench.summary.conftest import BENCH, GPU, ROWS, probe, rules, samples, summary, with_cached
from tokenhour.bench.cli import _print
from tokenhour.bench.summary.run_facts import Subject
from tokenhour.bench.summary.summarize import Raw, summarize
from tokenhour.contracts.errors import RunFailedError
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.probe import CpuPriority, EngineCounters, Probes
from tokenhour.contracts.records.telemetry import TelemetryRow


def test_hits_that_only_the_usage_tells_invalidate_above_what_was_declared() -> None:
    """Undeclared cache hits make prompts cheaper than the workload says, by whichever source."""
    hits = "prefix-cache hits above what the workload declares"
    assert hits in rules(summary(with_cached(4)))
    assert hits not in rules(summary(with_cached(0)))


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
