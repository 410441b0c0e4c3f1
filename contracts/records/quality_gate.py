"""The quality gate: whether recorded losses keep within an experiment's bounds. Pure, so every stage judges alike.

The verdict is derived on read from the manifest's figures and the experiment at hand: a bound that was changed since is
judged anew, without quantizing or measuring again.
"""

from __future__ import annotations

from typing import Literal

from tokenhour.contracts.config.model_quantize import QualityGate
from tokenhour.contracts.records.checkpoint import Quality

GateVerdict = Literal["PASS", "FAIL", "none"]


def judge(gate: QualityGate, mean_kl: float | None, perplexity_ratio: float | None) -> tuple[GateVerdict, tuple[str, ...]]:
    """Return PASS, FAIL or none (no bound is set), with a reason for each bound that was broken.

    `mean_kl` in nats a token, `perplexity_ratio` quantized over original. A figure that is absent where a bound is set
    breaks it: what was not measured has not passed.
    """
    bounds = [
        ("mean KL divergence", mean_kl, gate.max_mean_kl_divergence),
        ("perplexity ratio", perplexity_ratio, gate.max_perplexity_ratio),
    ]
    given = [(name, value, bound) for name, value, bound in bounds if bound is not None]
    if not given:
        return "none", ()
    broken = tuple(reason for name, value, bound in given if (reason := _broken(name, value, bound)))
    return ("FAIL" if broken else "PASS"), broken


def judge_quality(gate: QualityGate, quality: Quality | None) -> tuple[GateVerdict, tuple[str, ...]]:
    """Judge a manifest's quality; one that was never measured fails a gate that is set."""
    return judge(gate, *((quality.mean_kl_divergence.value, quality.perplexity_ratio) if quality else (None, None)))


def said(gate: GateVerdict, reasons: tuple[str, ...]) -> str:
    """Write a verdict for people: "quality gate PASS", "quality gate FAIL (mean KL ... is above ...)"; empty for none."""
    return "" if gate == "none" else f"quality gate {gate}" + (f" ({'; '.join(reasons)})" if reasons else "")


def _broken(name: str, value: float | None, bound: float) -> str:
    if value is None:
        return f"{name} was not measured"
    return f"{name} {value:.4g} is above {bound:.4g}" if value > bound else ""
