"""`w8a8`: INT8 weights (a scale a channel) and INT8 activations (a scale a token): SmoothQuant, then GPTQ."""

from __future__ import annotations

from quantize.schemes import Job, Recipe
from quantize.schemes.compressor import load, run

__all__ = ["load", "make"]

SMOOTHING_STRENGTH = 0.8
DAMPENING = 0.01


def make(job: Job) -> Recipe:
    """SmoothQuant (arXiv 2211.10438) moves outliers from activations to weights; GPTQ (arXiv 2210.17323) rounds."""
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    ignore = list(job.spec.ignore)
    run(
        job,
        [
            SmoothQuantModifier(smoothing_strength=SMOOTHING_STRENGTH),
            GPTQModifier(scheme="W8A8", targets="Linear", ignore=ignore, dampening_frac=DAMPENING),
        ],
    )
    return {
        "method": "SmoothQuant + GPTQ",
        "weights": "int8 symmetric per channel",
        "activations": "int8 symmetric per token, dynamic",
        "smoothing_strength": SMOOTHING_STRENGTH,
        "dampening": DAMPENING,
        "ignore": ignore,
    }
