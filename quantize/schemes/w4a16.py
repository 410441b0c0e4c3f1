"""`w4a16`: INT4 weights in groups, 16-bit activations, GPTQ, saved as compressed-tensors."""

from __future__ import annotations

from quantize.schemes import Job, Recipe
from quantize.schemes.compressor import load, run

__all__ = ["load", "make"]

DAMPENING = 0.01


def make(job: Job) -> Recipe:
    """GPTQ (arXiv 2210.17323) at the resolved group size, asymmetric."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers.gptq import GPTQModifier

    weights = QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=job.group_size, symmetric=False)
    ignore = list(job.spec.ignore)
    groups = {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
    run(job, [GPTQModifier(config_groups=groups, ignore=ignore, dampening_frac=DAMPENING)])
    return {
        "method": "GPTQ",
        "weights": f"int4 asymmetric, groups of {job.group_size}",
        "group_size": job.group_size,
        "symmetric": False,
        "dampening": DAMPENING,
        "ignore": ignore,
    }
