"""Whether an engine's figures are those of what was quantized: pure arithmetic over per-window figures.

The engine is judged by what the packing cost on the same windows, never by the perplexity itself: how texts differ is much
more than what INT4 costs, so that the original would pass for it.

How far arithmetic in bf16 may move each figure comes from SmolLM2-135M on 381 positions of a CPU:
- the original, served in bf16, made other first choices than in fp32 at 1.84 % of them, 2.6 % with PyTorch's bf16, 2.3 %
  of 12,264 on an H100 (FLIPS, rounded up);
- w8a8, served, differed by 0.0055 nats a token from its own figure in fp32: 0.108 over the root of 381. Taken as
  one standard error of a mean over positions (SPREAD), of which three are allowed, beside what does not average out (SHIFT);
- noise adds to a KL divergence and hardly takes from it: 0.0009 nats with PyTorch's bf16, of which four times are allowed
  (KL_NOISE).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.checkpoint import Quality
from tokenhour.quantize.evaluation.statistics import mean_interval

FLIPS = 0.03
SHIFT, SPREAD = 0.005, 0.1
KL_NOISE = 0.004
# The engine's KL may be so many times the offline one, or that part of it.
KL_FACTOR = 1.5
_ERRORS = 3.0  # standard errors
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Heard:
    """What an engine computes on the held-out windows against the original in fp32; every array has shape (windows,).

    `nll` in nats a token, `top1` the share of positions with the original's most likely token, `top_kl` as in WindowStats.
    """

    nll: Floats
    top1: Floats
    top_kl: Floats


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where each figure must lie for the engine to agree: (low, high), ends included."""

    loss: tuple[float, float]
    top1: tuple[float, float]
    top_kl: tuple[float, float] | None
    """None where the manifest has no such figure."""

    def hold(self, loss: float, top1: float, top_kl: float) -> bool:
        """Tell whether figures lie within all of them."""
        pairs = ((loss, self.loss), (top1, self.top1), (top_kl, self.top_kl))
        return all(bound is None or bound[0] <= value <= bound[1] for value, bound in pairs)


def loss_of(quality: Quality, original: Quality) -> Interval:
    """Return what the packing cost offline, nats a token, window by window; bootstrap over windows."""
    return mean_interval(np.subtract(quality.window_nll, original.window_nll))


def bounds(quality: Quality, original: Quality, positions: int) -> Bounds:
    """Return the bounds for a checkpoint that was compared at so many `positions` in all.

    The offline interval over windows, widened by what bf16 may do: the fewer positions, the more. One window has no
    interval, and its figure takes its place.
    """
    root = math.sqrt(positions)
    shift, flips = SHIFT + _ERRORS * SPREAD / root, FLIPS + _ERRORS * math.sqrt(FLIPS * (1 - FLIPS)) / root
    (loss_low, loss_high), (top1_low, top1_high) = (_ends(loss_of(quality, original)), _ends(quality.top1_agreement))
    listed = _ends(quality.top_kl_divergence) if quality.top_kl_divergence else None
    return Bounds(
        loss=(loss_low - shift, loss_high + shift),
        top1=(top1_low - flips, top1_high + flips),
        top_kl=(listed[0] / KL_FACTOR, listed[1] * KL_FACTOR + KL_NOISE) if listed else None,
    )


def told_apart(allowed: Bounds) -> bool:
    """Tell whether the original itself, served in place of this checkpoint, would be found out."""
    noise = (0.0, 1 - FLIPS, KL_NOISE)
    return not (allowed.hold(*noise) or allowed.hold(0.0, 1.0, 0.0))


def compare(heard: Heard, quality: Quality, original: Quality, positions: int) -> dict[str, Any]:
    """Return the engine's figures beside the manifest's, as fields of the record, and whether they agree."""
    loss = mean_interval(heard.nll - np.asarray(original.window_nll))
    top1, top_kl = mean_interval(heard.top1), mean_interval(heard.top_kl)
    allowed = bounds(quality, original, positions)
    return {
        "loss": loss,
        "offline_loss": loss_of(quality, original),
        "loss_bounds": allowed.loss,
        "top1_agreement": top1,
        "offline_top1_agreement": quality.top1_agreement,
        "top1_bounds": allowed.top1,
        "top_kl_divergence": top_kl,
        "offline_top_kl_divergence": quality.top_kl_divergence,
        "top_kl_bounds": allowed.top_kl,
        "agrees": allowed.hold(loss.value, top1.value, top_kl.value),
        "original_would_be_found_out": told_apart(allowed),
    }


def _ends(interval: Interval) -> tuple[float, float]:
    low, high = interval.low, interval.high
    return (interval.value if low is None else low), (interval.value if high is None else high)
