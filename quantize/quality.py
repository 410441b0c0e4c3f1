"""Quality loss as figures with intervals: pure arithmetic over per-window statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.checkpoint import GenerationAgreement, Quality, TaskScore, TextRecord
from contracts.gate import judge
from contracts.quantize_spec import QualityGate
from contracts.record import Interval

_RESAMPLES = 2000
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WindowStats:
    """Means over the predicted positions of each window; every array has shape (windows,).

    `nll` and `original_nll` are negative log-likelihoods in nats a token, `kl` is KL(original || quantized) in nats a
    token, `top1` the share of positions with the same most likely token.
    """

    nll: Floats
    original_nll: Floats
    kl: Floats
    top1: Floats


def bootstrap(values: Floats, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean by resampling windows (Efron & Tibshirani, ch. 13)."""
    picks = np.random.default_rng(seed).integers(0, len(values), size=(_RESAMPLES, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def mean_interval(values: Floats) -> Interval:
    """Return the mean over windows with its interval."""
    low, high = bootstrap(values)
    return Interval(value=float(values.mean()), low=low, high=high)


def perplexity(nll: Floats) -> Interval:
    """Return exp of the mean negative log-likelihood, its interval likewise."""
    low, high = bootstrap(nll)
    return Interval(value=float(np.exp(nll.mean())), low=float(np.exp(low)), high=float(np.exp(high)))


def agreement(choices: Sequence[NDArray[np.bool_]]) -> GenerationAgreement:
    """Summarize, for each answer, which of its tokens would be chosen again; each array has shape (answer tokens,)."""
    kept = [answer for answer in choices if len(answer)]
    before = np.array([float(np.argmin(answer)) / len(answer) if not answer.all() else 1.0 for answer in kept])
    return GenerationAgreement(
        prompts=len(kept),
        tokens=sum(len(answer) for answer in kept),
        same_choice=mean_interval(np.array([answer.mean() for answer in kept])),
        before_divergence=mean_interval(before),
        identical=sum(bool(answer.all()) for answer in kept),
    )


def assemble(
    stats: WindowStats,
    evaluation: TextRecord,
    gate: QualityGate,
    generation: GenerationAgreement | None = None,
    tasks: tuple[TaskScore, ...] = (),
) -> Quality:
    """Assemble the quality record and judge it by the gate."""
    ratio = float(np.exp(stats.nll.mean() - stats.original_nll.mean()))
    kl = mean_interval(stats.kl)
    verdict, reasons = judge(gate, kl.value, ratio)
    return Quality(
        evaluation=evaluation,
        perplexity=perplexity(stats.nll),
        original_perplexity=float(np.exp(stats.original_nll.mean())),
        perplexity_ratio=ratio,
        mean_kl_divergence=kl,
        top1_agreement=mean_interval(stats.top1),
        generation=generation,
        tasks=tasks,
        window_nll=tuple(stats.nll.tolist()),
        gate=verdict,
        gate_reasons=reasons,
    )
