"""Deviations from published figures: only like is held against like, and ±30 % is the line."""

from typing import Any

import pytest

from tests.breakeven.summaries import summary
from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.summary import Summary, TokensPerHour
from tokenhour.frontdoor.gpu_benchmark.published_figures import EIGHT_BILLION, deviations, outside, said


def run(scheme: str = "none", tps: float = 5000.0, gpu: str = "NVIDIA H100 80GB HBM3", **changes: Any) -> Summary:
    """Return a run on one GPU with this peak throughput in tokens a second."""
    nothing = Interval(value=0.0)
    peak = TokensPerHour(rate_rps=None, input_tokens_per_hour=nothing, output_tokens_per_hour=Interval(value=tps * 3600))
    device = Accelerator(kind="cuda", name=gpu, count=1, memory_bytes=80 * 2**30)
    return summary(scheme, peak=peak, accelerator=device, **{"model_name": "llama-3.1-8b", **changes})


@pytest.mark.parametrize(
    ("tps", "share", "within"),
    [(6000, 0.0, True), (5786, 0.0, True), (4100, -0.2914, True), (4000, -0.3087, False), (8110, 0.3001, False)],
)
def test_the_range_and_its_tolerance(tps: int, share: float, within: bool) -> None:
    """A run deviates by its distance from the published range, and is tolerated up to 30%."""
    (found,) = deviations([run(tps=tps)])
    assert found.deviation == pytest.approx(share, abs=1e-4)
    assert found.within is within
    assert found.source


def test_only_like_is_compared() -> None:
    """Runs with another mix, model or GPU than the published ones are not compared with them."""
    other_mix = run().workload.model_copy(update={"prompt": run().workload.prompt.model_copy(update={"mean_tokens": 2048})})
    unlike = [
        run(workload=other_mix),
        run(model_name="llama-3.1-70b"),
        run("w8a8"),
        run(gpu="NVIDIA L40S"),
        summary(),
    ]
    assert deviations(unlike) == ()
    assert len(deviations([run(), run("fp8"), run("w8a8", gpu="NVIDIA A100-SXM4-80GB"), *unlike])) == 3


def test_a_deviation_is_said_with_its_source() -> None:
    """The message shows our figure beside the published one and says when it is outside."""
    (far,) = deviations([run(tps=1000)])
    assert "OUTSIDE" in said(far)
    (near,) = deviations([run(tps=6000)])
    assert "6000 output tokens/s and GPU, published 5786-6238 (+0%, within ±30%" in said(near)


def test_the_table_is_consistent() -> None:
    """Every published figure is a proper range and names its source."""
    assert outside(1, 2, 3) == -0.5
    assert outside(6, 2, 3) == 1.0
    for row in EIGHT_BILLION:
        assert 0 < row.low <= row.high
        assert row.source
