"""What a person sees while a probe runs: the right figures on a terminal, and a plain line elsewhere."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench.rows import row
from tokenhour.bench.measure.live_view import Live, ProbeTimes, TelemetryTail, line, snapshot, table
from tokenhour.bench.recording import raw_files

PLAN = ProbeTimes(start_s=2.0, window_s=20.0, lead_in_s=2.0, lead_out_s=2.0)


def telemetry(folder: Path, *samples: list[Any]) -> Path:
    """Write telemetry lines as the sampler does."""
    file = folder / raw_files.TELEMETRY
    file.write_text("".join(json.dumps(s) + "\n" for s in samples))
    return file


def test_rates_are_of_the_last_seconds_and_latencies_of_the_requests() -> None:
    """Rates cover the last ten seconds, so that a person sees what happens now."""
    rows = [row(t / 10, ttft=0.1 + t / 1000, tokens=5) for t in range(100)] + [row(9.9, outcome="timeout")]
    found = snapshot(rows, PLAN, 12.0, {}, None)
    assert (found.done, found.failed) == (101, 1)
    assert found.progress == pytest.approx(0.5)
    assert found.left_s == pytest.approx(12.0)
    # Those that ended after second 2: scheduled from 1.9 s on, within 10 s.
    assert found.completed_rps == pytest.approx(8.2, abs=0.15)
    assert found.output_tps == pytest.approx(5 * found.completed_rps)
    assert found.ttft_s == pytest.approx((0.1495, 0.1891, 0.19801))
    assert found.tpot_s == pytest.approx((0.01, 0.01, 0.01))


def test_gpus_are_averaged_and_their_power_added() -> None:
    """Several GPUs are shown as one mean utilization and one sum of watts."""
    readings = {
        ("gpu", "utilization_share"): {"0": (1, 0.8), "1": (1, 0.6)},
        ("gpu", "power_w"): {"0": (1, 300), "1": (1, 250)},
    }
    found = snapshot([], PLAN, 5.0, readings, 123.0)
    assert found.utilization_share == pytest.approx(0.7)
    assert found.power_w == pytest.approx(550)
    assert found.gpu
    assert "GPU 70%, 550 W" in line(found)


def test_without_a_gpu_it_says_the_hosts_cores_and_no_power() -> None:
    """On a CPU the line shows CPU use, and no figure that nobody measured."""
    found = snapshot([], PLAN, 5.0, {("host", "cpu_share"): {"": (1, 0.9)}}, None)
    assert "CPU 90%" in line(found)
    assert " W" not in line(found)


def test_the_tail_keeps_the_latest_values_and_waits_for_a_whole_line(tmp_path: Path) -> None:
    """A half-written telemetry line is never parsed."""
    file = telemetry(
        tmp_path, [1.0, "engine", "", "generation_tokens_total", 100], [3.0, "engine", "", "requests_waiting", 4]
    )
    tail = TelemetryTail(file)
    tail.look()
    assert tail.output_tps() is None
    with file.open("a") as stream:
        stream.write(json.dumps([5.0, "engine", "", "generation_tokens_total", 500]) + "\n[6.0, ")
    tail.look()
    assert tail.output_tps() == pytest.approx(100)
    assert tail.readings["engine", "requests_waiting"][""] == (3.0, 4)


def test_elsewhere_than_on_a_terminal_it_prints_lines_and_the_outcome(tmp_path: Path) -> None:
    """Logs get plain lines without control characters."""
    out = io.StringIO()
    with Live("probe 1", telemetry(tmp_path), out) as live:
        live.show([row(1.0)], PLAN, 3.0)
        live.update("SLO met")
    assert out.getvalue().splitlines()[0].strip() == "probe 1"
    assert "SLO met" in out.getvalue()
    assert "\033" not in out.getvalue()


def test_on_a_terminal_it_shows_a_table_and_leaves_one_line(tmp_path: Path) -> None:
    """The table disappears with the probe, so that the outcomes can be read as a list."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    file = telemetry(tmp_path, [1.0, "host", "", "cpu_share", 0.5], [1.0, "engine", "", "requests_running", 3])
    with Live("probe 1", file, out) as live:
        live.show([row(1.0)], PLAN, 3.0)
        live._live.refresh()
        live.update("SLO met")
    text = out.getvalue()
    assert "TTFT p50 / p90 / p99" in text
    assert "3 at work" in text
    assert text.rstrip().endswith("   probe 1: SLO met  [0 s]"), "the table is wiped, the outcome stays"


def test_the_table_names_everything_that_is_asked_for() -> None:
    """Progress, rates, latencies and GPU figures all have their row."""
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=100)
    readings = {("gpu", "utilization_share"): {"0": (1, 0.5)}, ("gpu", "power_w"): {"0": (1, 99)}}
    console.print(table("probe 1", snapshot([row(1.0)], PLAN, 5.0, readings, 88.0)))
    text = out.getvalue()
    for wanted in ("probe 1", "left", "rate now", "88 output tokens/s", "TTFT", "TPOT", "50% busy, 99 W"):
        assert wanted in text
