"""`w4a16`: INT4 weights in groups, 16-bit activations, AutoRound or GPTQ, saved as compressed-tensors."""

from __future__ import annotations

from typing import Any

from tokenhour.quantize.backends.autoround import ITERATIONS, batch_size, put, tune
from tokenhour.quantize.backends.llm_compressor import load, run
from tokenhour.quantize.model.layer_rules import HEAD, left_alone, said, wants_head
from tokenhour.quantize.scheme_table import Job, Recipe

__all__ = ["load", "make"]

DAMPENING = 0.01


def make(job: Job) -> Recipe:
    """Round at the resolved group size, asymmetric unless asked otherwise, as `job.spec.w4a16_method` says."""
    method = job.spec.w4a16_method
    if method is None:
        raise ValueError("tokenhour.quantize.scheme_table.w4a16_method.settle says which method a model gets")
    symmetric = bool(job.spec.symmetric)
    return {
        "weights": f"int4 {'symmetric' if symmetric else 'asymmetric'}, groups of {job.group_size}",
        "group_size": job.group_size,
        "symmetric": symmetric,
        **said(job.spec),
        **(_by_autoround(job, symmetric=symmetric) if method == "autoround" else _by_gptq(job, symmetric=symmetric)),
    }


def _by_autoround(job: Job, *, symmetric: bool) -> Recipe:
    from llmcompressor.modifiers.quantization import QuantizationModifier

    tuned = tune(job, symmetric=symmetric)
    # AutoRound never learns the head, and what is not learned would be rounded plainly.
    ignore = [*left_alone(job.spec, job.layers), HEAD]
    rounding = QuantizationModifier(config_groups=_groups(job, symmetric=symmetric), ignore=ignore)
    run(job, [rounding], calibrated=False, finish=lambda model: put(model, tuned))
    ignored = [*job.spec.ignore, *([HEAD] if wants_head(job.spec) else [])]
    return {"method": "AutoRound", "ignore": ignored, "iterations": ITERATIONS, "batch_size": batch_size(job)}


def _by_gptq(job: Job, *, symmetric: bool) -> Recipe:
    """GPTQ (arXiv 2210.17323) with the static act-order, which costs engines nothing."""
    from llmcompressor.modifiers.gptq import GPTQModifier

    spec, dampening = job.spec, job.spec.dampening or DAMPENING
    groups = _groups(
        job,
        symmetric=symmetric,
        actorder="static" if spec.act_order else None,
        # By least error instead of by the outermost weights: docs/quantize-tried.md.
        observer="mse" if spec.scale_search else None,
    )
    run(job, [GPTQModifier(config_groups=groups, ignore=left_alone(spec, job.layers), dampening_frac=dampening)])
    return {
        "method": "GPTQ",
        "act_order": spec.act_order,
        "scale_search": spec.scale_search,
        "dampening": dampening,
    }


def _groups(job: Job, *, symmetric: bool, **more: Any) -> dict[str, Any]:
    """Return llm-compressor's schemes: one for each different treatment, and one for the rest."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    def weights(bits: int, group_size: int) -> QuantizationArgs:
        return QuantizationArgs(
            num_bits=bits, type="int", strategy="group", group_size=group_size, symmetric=symmetric, **more
        )

    own = [t for t in dict.fromkeys(job.layers.values()) if not t.skip]
    groups = {
        f"override_{k}": QuantizationScheme(
            targets=[name for name, treatment in job.layers.items() if treatment == t],
            weights=weights(t.bits or 4, t.group_size or job.group_size),
        )
        for k, t in enumerate(own)
    }
    return groups | {"rest": QuantizationScheme(targets=["Linear"], weights=weights(4, job.group_size))}
