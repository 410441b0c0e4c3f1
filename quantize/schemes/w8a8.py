"""`w8a8`: INT8 weights (a scale a channel) and INT8 activations (a scale a token)."""

from __future__ import annotations

from typing import Any

from tokenhour.quantize.backends.llm_compressor import load, run
from tokenhour.quantize.backends.smoothquant import LAST_STRENGTH, STRENGTH, smoothing
from tokenhour.quantize.model.layer_rules import left_alone, said
from tokenhour.quantize.scheme_table import Job, Recipe

__all__ = ["load", "make"]

DAMPENING = 0.01


def make(job: Job) -> Recipe:
    """SmoothQuant (arXiv 2211.10438) moves outliers from activations to weights; GPTQ (arXiv 2210.17323) rounds.

    `quantize.w8a8_method` leaves out either; round-to-nearest leaves out both and reads no text.
    """
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier

    method, ignore, dampening = job.spec.w8a8_method, left_alone(job.spec, job.layers), job.spec.dampening or DAMPENING
    recipe: Recipe = {
        "method": method,
        "weights": "int8 symmetric per channel",
        "activations": "int8 symmetric per token, dynamic",
        **said(job.spec),
    }
    modifiers: list[Any] = []
    if method in {"smoothquant-gptq", "smoothquant"}:
        modifiers.append(smoothing())
        recipe |= {"smoothing_strength": STRENGTH, "smoothing_strength_of_the_mlps_last_layer": LAST_STRENGTH}
    if method in {"smoothquant-gptq", "gptq"}:
        actorder = "static" if job.spec.act_order else None
        modifiers.append(
            GPTQModifier(scheme="W8A8", targets="Linear", ignore=ignore, dampening_frac=dampening, actorder=actorder)
        )
        recipe |= {"dampening": dampening, "act_order": job.spec.act_order}
    else:
        modifiers.append(QuantizationModifier(scheme="W8A8", targets="Linear", ignore=ignore))
    run(job, modifiers, calibrated=method != "round-to-nearest")
    return recipe
