"""What held a late generator up, and the remedy that fits."""

from typing import Any

import pytest

from tests.bench.summary.test_validity import BENCH, GOOD, PEAK
from tokenhour.bench.summary.lag import is_late, lag_limit_s, why_late
from tokenhour.bench.summary.validity import Facts, reasons
from tokenhour.contracts.config.bench import SloSpec
from tokenhour.contracts.records.probe import CpuPriority
from tokenhour.contracts.records.summary import LoadPoint

RAISED = CpuPriority(action="raised", decided_by="autogroup")
NEITHER = CpuPriority(action="neither", decided_by="autogroup", why="an autogroup of -10: Operation not permitted")
APART = CpuPriority(action="not shared")


def late(lag_s: float = 0.5, waited_s: float = 0.0, stolen_s: float = 0.0) -> LoadPoint:
    """Return a point whose generator lagged while it waited or was robbed of the CPU."""
    return GOOD.model_copy(update={"lag_p99_s": lag_s, "generator_wait_s": waited_s, "steal_s": stolen_s})


@pytest.mark.parametrize(
    ("point", "cause"),
    [
        (late(waited_s=0.5, stolen_s=0.1), "waited for a CPU"),
        (late(waited_s=0.2, stolen_s=0.9), "hypervisor"),
        (late(waited_s=0.09, stolen_s=0.09), "unexplained"),
        (late(lag_s=0.02, waited_s=0.015), "waited for a CPU"),
        (late(waited_s=None, stolen_s=None), "unexplained"),
    ],
    ids=["waited", "stolen", "neither", "a short lag", "not sampled"],
)
def test_the_larger_of_what_could_hold_it_up_is_the_cause(point: LoadPoint, cause: str) -> None:
    """Only a cause large enough to explain the lag is named; else it stays unexplained."""
    assert why_late(point, RAISED).cause == cause


def test_the_figure_is_told() -> None:
    """The explanation carries seconds, and says whether the engine shared the cores."""
    assert why_late(late(waited_s=0.5), RAISED).explanation == "the generator waited 0.5 s for a CPU beside the engine"
    assert why_late(late(waited_s=0.5), APART).explanation == "the generator waited 0.5 s for a CPU"
    assert "the hypervisor took 0.9 s of each CPU" in why_late(late(stolen_s=0.9), RAISED).explanation
    assert "not sampled" in why_late(late(waited_s=None), RAISED).explanation


def test_the_remedy_fits_what_was_permitted() -> None:
    """A user is not told to do what was already done, or what the host alone decides."""
    assert NEITHER.why in why_late(late(waited_s=0.5), NEITHER).remedy
    assert "taskset" in why_late(late(waited_s=0.5), RAISED).remedy
    assert "dedicated cores" in why_late(late(stolen_s=0.5), NEITHER).remedy


def test_client_lag_in_a_verdict_names_its_cause() -> None:
    """INVALID for client lag comes with cause, explanation and remedy."""
    (said,) = reasons([PEAK, late(waited_s=0.5)], GOOD, BENCH, Facts(cpu_priority=NEITHER))
    assert (said.rule, said.cause) == ("client lag", "waited for a CPU")
    assert said.remedy
    assert said.explanation


def test_it_is_late_above_a_tenth_of_the_objective() -> None:
    """Lag beyond a tenth of the latency bound would decide the verdict itself."""
    slo = SloSpec(percentile=90, ttft_s=1.0)
    assert not is_late(late(lag_s=0.1), slo)
    assert is_late(late(lag_s=0.101), slo)
    assert not is_late(GOOD.model_copy(update={"lag_p99_s": None}), slo)


@pytest.mark.parametrize(
    ("bounds", "limit_s"),
    [
        ({"ttft_s": 2.0, "e2e_s": 1.0, "tpot_s": 0.05}, 0.1),
        ({"ttft_s": 0.5, "e2e_s": 5.0}, 0.05),
        ({"e2e_s": 3.0, "tpot_s": 0.05}, 0.3),
        ({"tpot_s": 0.05}, 0.005),
    ],
    ids=["e2e is tighter", "TTFT is tighter", "no TTFT", "TPOT alone"],
)
def test_the_generator_may_lag_by_a_share_of_the_tighter_bound_that_counts_from_the_arrival(
    bounds: dict[str, Any], limit_s: float
) -> None:
    """TTFT and end-to-end bounds include the lag, so the tighter one limits it."""
    assert lag_limit_s(SloSpec(percentile=90, **bounds)) == pytest.approx(limit_s)
