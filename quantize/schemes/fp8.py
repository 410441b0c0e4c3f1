"""`fp8`: E4M3 weights (a scale a channel) and activations (a scale a token), for GPUs that compute in it."""

from __future__ import annotations

from tokenhour.quantize.backends.llm_compressor import load, run
from tokenhour.quantize.model.layer_rules import left_alone, said
from tokenhour.quantize.scheme_table import Job, Recipe

__all__ = ["load", "make"]


def make(job: Job) -> Recipe:
    """Round to E4M3 (arXiv 2209.05433); the scales need no calibration text."""
    from llmcompressor.modifiers.quantization import QuantizationModifier

    run(
        job,
        [QuantizationModifier(scheme="FP8_DYNAMIC", targets="Linear", ignore=left_alone(job.spec, job.layers))],
        calibrated=False,
    )
    return {
        "method": "round to nearest",
        "weights": "fp8 e4m3 per channel",
        "activations": "fp8 e4m3 per token, dynamic",
        **said(job.spec),
    }
