"""What the tests of the GPU proof share."""

from pathlib import Path

import pytest

from tests.bench.roofline.test_utilization import rates
from tests.frontdoor.stand_ins import ENGINE, Stages
from tokenhour.contracts.record import Interval
from tokenhour.frontdoor.gpu_benchmark import steps
from tokenhour.machine.hardware import accelerator


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modern_cpu: None) -> Stages:  # noqa: ARG001 (marks do not apply to fixtures)
    """Replace every stage, the engine and the machine's rates by stand-ins."""
    found = Stages(tmp_path / "results")
    monkeypatch.setattr(steps, "run_step", found)
    monkeypatch.setattr(
        "tokenhour.bench.calibration.calibrate.certified", lambda _results: (None, "no compiler in this test")
    )
    monkeypatch.setattr("tokenhour.frontdoor.gpu_benchmark.command.engine_version", lambda _root: ENGINE)
    here = accelerator()
    measured = rates(bf16=1e12, int8=2e12).model_copy(update={"accelerator": here, "copy_bytes_per_s": Interval(value=1e10)})
    monkeypatch.setattr(steps, "measured", lambda _device: measured)
    return found
