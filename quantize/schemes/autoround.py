"""AutoRound (arXiv 2309.05516): how each weight is rounded, and each group's range, learned block by block.

Called through its own interface: llm-compressor's modifier for it came out worse than plain rounding
(docs/quantize-tried.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.errors import InputError, RunFailedError
from quantize.layers import AS_USUAL, HEAD, Layers, linear_layers
from quantize.loading import causal_model, tokenizer_of
from quantize.schemes import Job

ITERATIONS, BATCH = 30, 4
_WIDTH, _WHERE = 32, "quantize.w4a16_method"


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was learned for one layer."""

    weight: Any
    """On its grid: scale * (integer - zero), (out, in)."""
    scale: Any
    """(out, groups)."""
    zero: Any
    """Zero points of unsigned integers, (out, groups)."""


def tune(job: Job, *, symmetric: bool) -> dict[str, Tuned]:
    """Learn the INT4 weights of `job.original`, with the job's calibration windows; by the layers' names.

    Layers that `job.layers` skips, and the head, are left out. Scales are bfloat16's numbers, which is how they are packed.
    Raises InputError for widths that AutoRound passes over, RunFailedError where it left a layer alone otherwise.
    """
    import torch
    from auto_round import AutoRound

    wanted = wanted_layers(job)
    model = causal_model(job.original, trusted=job.trusted, dtype=torch.float32)
    windows = torch.as_tensor(job.calibration)
    AutoRound(
        model,
        tokenizer=tokenizer_of(job.original, trusted=job.trusted),
        bits=4,
        group_size=job.group_size,
        sym=symmetric,
        iters=ITERATIONS,
        batch_size=min(BATCH, len(windows)),
        nsamples=len(windows),
        seqlen=windows.shape[1],
        dataset=[{"input_ids": row[None], "attention_mask": torch.ones_like(row)[None]} for row in windows],
        layer_config=own_settings(job.layers, job.group_size),
        scale_dtype="bf16",
        amp=False,
        device_map="cuda" if torch.cuda.is_available() else "cpu",
        enable_torch_compile=False,
        seed=0,
    ).quantize()
    found = {name: module for name, module in model.named_modules() if hasattr(module, "scale") and hasattr(module, "zp")}
    if left := wanted - found.keys():
        raise RunFailedError(
            f"AutoRound left {len(left)} layers as they were: {min(left)}", where=_WHERE, remedy="use w4a16_method: gptq"
        )
    return {name: _tuned(module) for name, module in found.items()}


def wanted_layers(job: Job) -> set[str]:
    """Return the layers that are to be learned. Raises InputError for widths that AutoRound passes over."""
    widths = {
        name: width
        for name, width in linear_layers(job.original, trusted=job.trusted).items()
        if name != HEAD and not job.layers.get(name, AS_USUAL).skip
    }
    odd = [name for name, width in widths.items() if width % _WIDTH]
    if odd:
        raise InputError(
            f"AutoRound passes over layers whose width is no multiple of {_WIDTH}: {odd[0]} has {widths[odd[0]]}",
            where=_WHERE,
            remedy="use w4a16_method: gptq",
        )
    return set(widths)


def own_settings(layers: Layers, group_size: int) -> dict[str, dict[str, int]]:
    """Write what is treated differently as AutoRound takes it; 16 bits leave a layer alone."""
    return {
        name: {"bits": 16} if one.skip else {"bits": one.bits or 4, "group_size": one.group_size or group_size}
        for name, one in layers.items()
    }


def _tuned(module: Any) -> Tuned:
    import torch

    rows = module.weight.shape[0]
    scale = module.scale.detach().reshape(rows, -1).cpu()
    zero = torch.as_tensor(module.zp).detach().cpu()
    zero = zero.reshape(rows, -1) if zero.numel() > 1 else zero.expand_as(scale)
    return Tuned(module.weight.detach().cpu(), scale, zero)


def put(model: Any, tuned: Mapping[str, Tuned]) -> None:
    """Give a model whose layers llm-compressor is about to pack what was learned for them."""
    from compressed_tensors.offload import update_offload_parameter

    for name, module in model.named_modules():
        if name not in tuned:
            continue
        one = tuned[name]
        update_offload_parameter(module, "weight", one.weight.to(module.weight.dtype))
        update_offload_parameter(module, "weight_scale", one.scale.to(module.weight_scale.dtype))
        if getattr(module, "weight_zero_point", None) is not None:
            # Theirs counts from the middle of the range.
            middle = 2 ** (module.quantization_scheme.weights.num_bits - 1)
            update_offload_parameter(module, "weight_zero_point", (one.zero - middle).to(module.weight_zero_point.dtype))
