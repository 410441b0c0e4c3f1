"""Quality loss as figures with intervals: pure arithmetic over per-window statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenhour.contracts.config.model_quantize import QualityGate
from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.checkpoint import GenerationAgreement, Quality, TaskScore, TextRecord
from tokenhour.contracts.records.quality_gate import judge

_RESAMPLES = 2000
# Tokens that `top_kl` counts one by one. An engine tells no more of them (vLLM: max_logprobs).
TOP = 20
# A probability below which 32-bit figures say nothing.
_LEAST = 1e-7
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WindowStats:
    """Means over the predicted positions of each window; every array has shape (windows,).

    `nll` and `original_nll` are negative log-likelihoods in nats a token, `kl` is KL(original || quantized) in nats a
    token, `top1` the share of positions with the same most likely token; `top_kl` as `listed_kl` has it, of the TOP tokens
    that are most likely after quantization.
    """

    nll: Floats
    original_nll: Floats
    kl: Floats
    top1: Floats
    top_kl: Floats


def listed_kl(log_p: Floats, log_q: Floats) -> Floats:
    """Return the KL divergence p || q over listed tokens and all others as one, shape (...); both shapes (..., tokens).

    To take tokens together lowers it or leaves it as it is (Cover & Thomas, 2.7.1): it is a lower bound of the whole one.
    """
    p, q = np.exp(log_p), np.exp(log_q)
    rest_p, rest_q = (np.clip(1 - listed.sum(-1), _LEAST, None) for listed in (p, q))
    found: Floats = (p * (log_p - log_q)).sum(-1) + rest_p * np.log(rest_p / rest_q)
    return found


def bootstrap(values: Floats, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean by resampling windows (Efron & Tibshirani, ch. 13)."""
    picks = np.random.default_rng(seed).integers(0, len(values), size=(_RESAMPLES, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def mean_interval(values: Floats) -> Interval:
    """Return the mean over windows with its interval; one window has none."""
    if len(values) == 1:
        return Interval(value=float(values[0]))
    low, high = bootstrap(values)
    return Interval(value=float(values.mean()), low=low, high=high)


def with_interval(found: Interval, form: str) -> str:
    """Write a figure with its interval, where it has one."""
    if found.low is None or found.high is None:
        return f"{found.value:{form}}"
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]"


def perplexity(nll: Floats) -> Interval:
    """Return exp of the mean negative log-likelihood, its interval likewise."""
    found = mean_interval(nll)
    return Interval(**{key: None if log is None else float(np.exp(log)) for key, log in found})


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
        top_kl_divergence=mean_interval(stats.top_kl),
        generation=generation,
        tasks=tasks,
        window_nll=tuple(stats.nll.tolist()),
        gate=verdict,
        gate_reasons=reasons,
    )
