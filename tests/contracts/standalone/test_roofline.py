"""A roofline is of the summary that it lies beside, or of none."""

from pathlib import Path

from tests.breakeven.summaries import summary, write_roofline
from tests.golden import file_of
from tokenhour.contracts.standalone.roofline import Roofline


def test_a_roofline_of_an_earlier_measurement_is_not_taken(tmp_path: Path) -> None:
    """Utilizations of other probes would be shown beside today's."""
    assert Roofline.beside(tmp_path) is None
    summary().write(tmp_path)
    assert Roofline.beside(tmp_path) is None
    write_roofline(tmp_path)
    assert Roofline.beside(tmp_path) == Roofline.read(tmp_path)
    (tmp_path / "summary.json").unlink()
    summary(output_per_hour=1.0).write(tmp_path)
    assert Roofline.beside(tmp_path) is None


def test_an_unknown_share_is_said_as_that() -> None:
    """A matrix rate that could not be measured gives no figure."""
    found = Roofline.read(file_of(Roofline, 1))
    one = found.points[0].model_copy(update={"point": "peak", "bandwidth_utilization": 0.614, "ops_utilization": None})
    known = found.model_copy(update={"points": (one,), "matrix_type": "int8"})
    assert known.sentence() == "peak: 61.4% of copy bandwidth, an unknown share of the int8 matrix rate"
