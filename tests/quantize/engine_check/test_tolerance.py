"""When an engine's figures and the offline ones agree: by the loss on the same windows, not by how the texts differ."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tokenhour.contracts.records.checkpoint import Quality
from tokenhour.contracts.records.engine_quality import EngineQuality
from tokenhour.quantize.engine_check.check import describe
from tokenhour.quantize.engine_check.tolerance import Heard, bounds, compare, told_apart
from tokenhour.quantize.evaluation.statistics import mean_interval, perplexity

ORIGINAL_NLL = np.array([2.5, 3.7, 3.2])
POSITIONS = 381


def quality(
    loss: Sequence[float],
    top1: Sequence[float],
    top_kl: Sequence[float] | None,
    original: NDArray[np.float64] = ORIGINAL_NLL,
) -> Quality:
    """Return a manifest's figures, an array a window each."""
    nll = original + np.array(loss)
    construct: Any = Quality.model_construct  # no more than is judged
    return construct(
        window_nll=tuple(nll),
        perplexity=perplexity(nll),
        top1_agreement=mean_interval(np.array(top1)),
        top_kl_divergence=None if top_kl is None else mean_interval(np.array(top_kl)),
    )


ORIGINAL = quality([0.0] * 3, [1.0] * 3, [0.0] * 3)
INT4 = quality([0.16, 0.22, 0.20], [0.76, 0.79, 0.81], [0.15, 0.19, 0.17])
INT8 = quality([0.004, 0.011, 0.002], [0.93, 0.95, 0.94], [0.010, 0.013, 0.012])


def heard(loss: float, top1: float, top_kl: float) -> Heard:
    """Return what an engine says, the same in each window."""
    return Heard(ORIGINAL_NLL + loss, np.full(3, top1), np.full(3, top_kl))


def agrees(said: Heard, offline: Quality, positions: int = POSITIONS) -> bool:
    """Tell whether what the engine says agrees with the manifest."""
    return compare(said, offline, ORIGINAL, positions)["agrees"]


@pytest.mark.parametrize(
    ("offline", "said"),
    [
        (ORIGINAL, heard(0.0, 1.0, 0.0)),
        (ORIGINAL, heard(0.002, 1 - 9 / 381, 0.0015)),
        (INT8, heard(0.0057 - 0.0055, 0.93, 0.014)),
        (INT4, heard(0.193, 0.787, 0.17)),
        (INT4, heard(0.21, 0.765, 0.18)),
    ],
    ids=["the same", "the original in bf16", "w8a8 as it was measured", "INT4", "INT4 in bf16"],
)
def test_what_bf16_does_is_no_disagreement(offline: Quality, said: Heard) -> None:
    """Rounding in another precision stays within the bounds, so correct engines pass."""
    assert agrees(said, offline)


@pytest.mark.parametrize(
    "said",
    [heard(0.0, 0.98, 0.002), heard(0.0, 0.787, 0.17), heard(0.193, 0.98, 0.17), heard(0.193, 0.787, 0.002)],
    ids=["all", "loss", "top-1", "KL"],
)
def test_the_original_in_place_of_int4_disagrees_by_each_figure_alone(said: Heard) -> None:
    """Its perplexity lies well within the interval of INT4's: windows differ more than that."""
    ppl = INT4.perplexity
    assert ppl.low < np.exp(ORIGINAL_NLL.mean()) < ppl.high
    assert not agrees(said, INT4)


def test_the_original_in_place_of_int8_is_found_out_too() -> None:
    """Even the small loss of INT8 suffices to notice unquantized weights."""
    assert not agrees(heard(0.0015, 0.982, 0.0015), INT8)


@pytest.mark.parametrize("said", [heard(0.9, 0.787, 0.17), heard(0.193, 0.6, 0.17), heard(0.193, 0.787, 0.4)])
def test_kernels_that_compute_worse_than_what_was_packed_disagree(said: Heard) -> None:
    """A loss above the offline one fails the check, by each figure alone."""
    assert not agrees(said, INT4)


def test_fewer_positions_leave_more_room_and_top_1_of_the_original_is_not_on_the_edge() -> None:
    """Bounds widen with less data, so short checks raise no false alarm."""
    few, many = (bounds(ORIGINAL, ORIGINAL, n) for n in (381, 24 * 511))
    assert few.loss[1] > 2 * many.loss[1] > 0.01
    assert few.top1[0] < 1 - 15 / 381 < many.top1[0] < 0.98
    assert not agrees(heard(0.0, 0.92, 0.0015), ORIGINAL)


def test_a_manifest_without_the_listed_kl_is_judged_by_the_rest() -> None:
    """Checkpoints of an older version can still be checked."""
    older = quality([0.16, 0.22, 0.20], [0.76, 0.79, 0.81], None)
    found = compare(heard(0.193, 0.787, 9.0), older, ORIGINAL, POSITIONS)
    assert found["agrees"]
    assert found["top_kl_bounds"] is None


def record(
    offline: Quality, said: Heard, original: Quality = ORIGINAL, positions: int = POSITIONS, scheme: str = "gptq-int4"
) -> EngineQuality:
    """Make the record of a check."""
    return EngineQuality(
        scheme=scheme,
        engine="toy 1",
        quantization=None,
        windows=len(offline.window_nll),
        window_tokens=128,
        perplexity=perplexity(said.nll),
        offline_perplexity=offline.perplexity,
        perplexity_ratio=perplexity(said.nll - np.array(offline.window_nll)),
        inputs={},
        created_utc="2026-11-25T00:00:00Z",
        **compare(said, offline, original, positions),
    )


def test_one_window_is_judged_without_an_interval_and_that_is_said() -> None:
    """A single window gives a verdict, but no interval is invented."""
    original, offline = (quality([loss], [top1], [kl], ORIGINAL_NLL[:1]) for loss, top1, kl in ((0, 1, 0), (0.2, 0.8, 0.17)))
    assert offline.perplexity.low is offline.top1_agreement.high is None
    said = Heard(ORIGINAL_NLL[:1] + 0.21, np.array([0.79]), np.array([0.18]))
    found = record(offline, said, original, 127)
    assert found.agrees
    assert found.loss.low is None
    assert "one window has no interval" in describe(found)
    assert not record(offline, Heard(ORIGINAL_NLL[:1], np.array([0.98]), np.array([0.002])), original, 127).agrees


def test_what_cannot_be_told_from_the_original_is_said() -> None:
    """When a scheme loses too little to be distinguished, the report admits it."""
    tiny = quality([0.0, 0.001, 0.0], [0.99, 0.98, 0.99], [0.001, 0.002, 0.001])
    assert not told_apart(bounds(tiny, ORIGINAL, POSITIONS))
    assert "do not tell it from the original" in describe(record(tiny, heard(0.0, 0.985, 0.002)))
    assert "from the original:" not in describe(record(INT4, heard(0.193, 0.787, 0.17)))
    assert "from the original:" not in describe(record(ORIGINAL, heard(0.0, 0.98, 0.002), scheme="none"))
