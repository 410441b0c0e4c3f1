"""A proof's table: what was not measured is a dash, never a zero."""

from pathlib import Path

from tests.breakeven.summaries import summary, write_roofline
from tokenhour.frontdoor.gpu_benchmark.table import line, shares


def test_what_was_not_measured_is_a_dash(tmp_path: Path) -> None:
    """Without an SLO capacity, energy, price and roofline the run still has its line."""
    summary(at_slo=None, run="proof-chat-none").write(tmp_path)
    assert line(tmp_path) == "| proof-chat-none | VALID | 325 | - | - | - | - | - | - |"


def test_what_was_measured_stands_in_its_column(tmp_path: Path) -> None:
    """Rates are by the second, capacity by the hour, utilizations those of the peak."""
    summary(energy_j_per_output_token=0.1234).write(tmp_path)
    write_roofline(tmp_path, bandwidth=0.61, ops=0.123)
    assert shares(tmp_path) == ("61.0%", "12.3%")
    assert line(tmp_path) == "| golden-none | VALID | 325 | 250 | 1.8M / 900k | 0.123 | - | 61.0% | 12.3% |"
