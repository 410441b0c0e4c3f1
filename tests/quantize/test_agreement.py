"""When an engine's figures and the offline ones agree."""

from typing import Any

import numpy as np
import pytest

from contracts.checkpoint import Quality
from contracts.record import Interval
from quantize.through_engine import compare

FIELDS: dict[str, Any] = {
    "perplexity": Interval(value=23.36, low=12.37, high=40.84),
    "top1_agreement": Interval(value=0.9449, low=0.9291, high=0.9606),
    "window_nll": (2.9, 3.4, 3.15),
}
OFFLINE = Quality.model_construct(**FIELDS)


@pytest.mark.parametrize(
    ("off", "same", "agrees"),
    [(0.0, 0.945, True), (0.0, 0.9265, True), (0.0, 0.90, False), (0.8, 0.945, False)],
    ids=["alike", "ties flipped by bf16", "other choices", "another perplexity"],
)
def test_an_engine_agrees_within_the_offline_intervals_and_the_ties_that_bf16_flips(off, same, agrees):
    found = compare(np.array(OFFLINE.window_nll) + off, np.full(3, same), OFFLINE)
    assert found["agrees"] is agrees
    assert found["perplexity_ratio"].value == pytest.approx(np.exp(off))
