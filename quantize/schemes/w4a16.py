"""`w4a16`: INT4 weights in groups, 16-bit activations, GPTQ, saved as compressed-tensors."""

from __future__ import annotations

from quantize.schemes import Job, Recipe, anchored, skipped
from quantize.schemes.compressor import load, run

__all__ = ["load", "make"]

DAMPENING = 0.01


def make(job: Job) -> Recipe:
    """GPTQ (arXiv 2210.17323) at the resolved group size; asymmetric unless asked otherwise. Act-order is the static one."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers.gptq import GPTQModifier

    spec = job.spec
    symmetric, dampening = bool(spec.symmetric), spec.dampening or DAMPENING
    actorder = "static" if spec.act_order else None

    def weights(bits: int, group_size: int) -> QuantizationArgs:
        return QuantizationArgs(
            num_bits=bits, type="int", strategy="group", group_size=group_size, symmetric=symmetric, actorder=actorder
        )

    own = [o for o in spec.overrides if not o.skip]
    groups = {
        f"override_{k}": QuantizationScheme(
            targets=[f"re:{anchored(o.match)}"], weights=weights(o.bits or 4, o.group_size or job.group_size)
        )
        for k, o in enumerate(own)
    }
    groups["rest"] = QuantizationScheme(targets=["Linear"], weights=weights(4, job.group_size))
    ignore = skipped(spec)
    run(job, [GPTQModifier(config_groups=groups, ignore=ignore, dampening_frac=dampening)])
    return {
        "method": "GPTQ",
        "weights": f"int4 {'symmetric' if symmetric else 'asymmetric'}, groups of {job.group_size}",
        "group_size": job.group_size,
        "symmetric": symmetric,
        "act_order": spec.act_order,
        "dampening": dampening,
        "ignore": ignore,
        "overrides": [f"{o.match}: {o.bits or 4} bits, groups of {o.group_size or job.group_size}" for o in own],
    }
