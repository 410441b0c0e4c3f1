"""`w4a16`: INT4 weights in groups, 16-bit activations, GPTQ or AutoRound, saved as compressed-tensors."""

from __future__ import annotations

from quantize.layers import left_alone, said
from quantize.schemes import Job, Recipe
from quantize.schemes.autoround import BATCH, ITERATIONS, put, tune
from quantize.schemes.compressor import load, run

__all__ = ["load", "make"]

DAMPENING = 0.01


def make(job: Job) -> Recipe:
    """GPTQ (arXiv 2210.17323) at the resolved group size; asymmetric unless asked otherwise. Act-order is the static one.

    `quantize.w4a16_method: autoround` learns the rounding instead (`quantize.schemes.autoround`).
    """
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier

    spec, learned = job.spec, job.spec.w4a16_method == "autoround"
    symmetric, dampening = bool(spec.symmetric), spec.dampening or DAMPENING
    actorder = "static" if spec.act_order and not learned else None

    def weights(bits: int, group_size: int) -> QuantizationArgs:
        return QuantizationArgs(
            num_bits=bits,
            type="int",
            strategy="group",
            group_size=group_size,
            symmetric=symmetric,
            actorder=actorder,
            # By least error instead of by the outermost weights: docs/quantize-tried.md.
            observer="mse" if spec.scale_search and not learned else None,
        )

    own = [t for t in dict.fromkeys(job.layers.values()) if not t.skip]
    groups = {
        f"override_{k}": QuantizationScheme(
            targets=[name for name, treatment in job.layers.items() if treatment == t],
            weights=weights(t.bits or 4, t.group_size or job.group_size),
        )
        for k, t in enumerate(own)
    }
    groups["rest"] = QuantizationScheme(targets=["Linear"], weights=weights(4, job.group_size))
    ignore = left_alone(job.spec, job.layers)
    recipe: Recipe = {
        "method": "AutoRound" if learned else "GPTQ",
        "weights": f"int4 {'symmetric' if symmetric else 'asymmetric'}, groups of {job.group_size}",
        "group_size": job.group_size,
        "symmetric": symmetric,
        **said(spec),
    }
    if learned:
        tuned = tune(job, symmetric=symmetric)
        rounding = QuantizationModifier(config_groups=groups, ignore=ignore)
        run(job, [rounding], calibrated=False, finish=lambda model: put(model, tuned))
        return recipe | {"iterations": ITERATIONS, "batch_size": BATCH}
    run(job, [GPTQModifier(config_groups=groups, ignore=ignore, dampening_frac=dampening)])
    return recipe | {"act_order": spec.act_order, "scale_search": spec.scale_search, "dampening": dampening}
