"""What the tests of the GPU proof share."""

import pytest

from contracts.hardware import accelerator
from contracts.record import Interval
from frontdoor import proof_steps
from tests.bench.test_roofline import rates
from tests.frontdoor.stand_ins import ENGINE, Stages


@pytest.fixture
def stages(tmp_path, monkeypatch, modern_cpu):  # noqa: ARG001 (marks do not apply to fixtures)
    found = Stages(tmp_path / "results")
    monkeypatch.setattr(proof_steps, "run_step", found)
    monkeypatch.setattr("bench.calibrate.certified", lambda _results: (None, "no compiler in this test"))
    monkeypatch.setattr("frontdoor.proof.engine_version", lambda _root: ENGINE)
    here = accelerator()
    measured = rates(bf16=1e12, int8=2e12).model_copy(update={"accelerator": here, "copy_bytes_per_s": Interval(value=1e10)})
    monkeypatch.setattr(proof_steps, "measured", lambda _device: measured)
    return found
