"""What a later scheme would be refused for is found before the first is made."""

import pytest

from tests.quantize.desk import Desk

pytestmark = pytest.mark.system


def test_memory_is_looked_at_for_the_most_demanding_scheme_before_the_first_is_made(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The original takes three times its weights, quantizing five times: four are too few."""
    weights = (desk.model / "model.safetensors").stat().st_size
    monkeypatch.setattr("tokenhour.quantize.preflight.resources.available_memory_bytes", lambda: 900_000_000 + 4 * weights)
    desk.data["schemes"] = ["none", "gptq-int4"]
    assert desk.run() == 2
    assert "of memory are needed" in capfd.readouterr().err
    assert desk.left() == []
    desk.data["schemes"] = ["none"]
    assert desk.run() == 0


def test_a_calibration_text_shorter_than_one_window_leaves_nothing(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    """A text too short to calibrate on is rejected with the number of windows that fit."""
    short = desk.folder / "short.txt"
    short.write_text("a few words")
    desk.data["schemes"] = ["none", "gptq-int4"]
    desk.data["quantize"]["calibration"]["source"] = str(short)
    assert desk.run() == 2
    assert "room for 0 windows of 32" in capfd.readouterr().err
    assert desk.left() == []
