"""AutoRound (arXiv 2309.05516): how each weight is rounded, and each group's range, learned block by block.

Called through its own interface: llm-compressor's modifier for it came out worse than plain rounding
(docs/quantize-tried.md).
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokenhour.contracts.errors import RunFailedError
from tokenhour.quantize.memory_errors import out_of_memory
from tokenhour.quantize.model.layer_rules import HEAD, Layers
from tokenhour.quantize.model.load import causal_model, tokenizer_of
from tokenhour.quantize.scheme_table import Job
from tokenhour.quantize.scheme_table.w4a16_method import REMEDY, WHERE

ITERATIONS, BATCH = 30, 4


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was learned for one layer."""

    weight: Any
    """On its grid: scale * (integer - zero), (out, in)."""
    scale: Any
    """(out, groups)."""
    zero: Any
    """Zero points of unsigned integers, (out, groups)."""


def batch_size(job: Job) -> int:
    """Return how many windows each step of learning sees."""
    return min(BATCH, len(job.calibration))


def tune(job: Job, *, symmetric: bool) -> dict[str, Tuned]:
    """Learn the INT4 weights of `job.original`, with the job's calibration windows; by the layers' names.

    Layers that `job.layers` skips, and the head, are left out. Scales are bfloat16's numbers, which is how they are packed.
    Raises RunFailedError where AutoRound fails.
    """
    import torch

    model = causal_model(job.original, trusted=job.trusted, dtype=torch.float32)
    tokenizer = tokenizer_of(job.original, trusted=job.trusted)
    with _left_as_it_was():
        try:
            _learn(job, model, tokenizer, symmetric=symmetric)
        except (Exception, SystemExit) as error:  # what it does not know fails in it in any way, by exit() too
            said = f"{type(error).__name__} {str(error).strip().splitlines()[0] if str(error).strip() else ''}".strip()
            if isinstance(error, Exception) and out_of_memory(error):
                said = f"memory ran out: {said}"
            raise RunFailedError(
                f"AutoRound failed: {said}",
                where=WHERE,
                remedy=f"{REMEDY}; its own words are in the log beside the checkpoint",
            ) from error
    modules = {n: m for n, m in model.named_modules() if n != HEAD and hasattr(m, "scale") and hasattr(m, "zp")}
    return {name: _tuned(module) for name, module in modules.items()}


def _learn(job: Job, model: Any, tokenizer: Any, *, symmetric: bool) -> None:
    import torch
    from auto_round import AutoRound

    windows = torch.as_tensor(job.calibration)
    AutoRound(
        model,
        tokenizer=tokenizer,
        bits=4,
        group_size=job.group_size,
        sym=symmetric,
        iters=ITERATIONS,
        batch_size=batch_size(job),
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


@contextlib.contextmanager
def _left_as_it_was() -> Iterator[None]:
    """Undo what a run of AutoRound does to the whole process: seeds, determinism, print options, the model that it keeps.

    What its import changes stays, in transformers mostly.
    """
    import torch
    from auto_round.context.compress import CompressContext
    from auto_round.context.model import ModelContext

    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace, numbers, drawn = os.environ.get("CUBLAS_WORKSPACE_CONFIG"), np.random.get_state(), random.getstate()  # noqa: NPY002 (theirs)
    with torch.random.fork_rng():
        try:
            yield
        finally:
            ModelContext.reset_context()
            CompressContext.reset_context()
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.set_printoptions(profile="default")
            np.random.set_state(numbers)  # noqa: NPY002
            random.setstate(drawn)
            if workspace is None:
                os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
            gc.collect()


def own_settings(layers: Layers, group_size: int) -> dict[str, dict[str, int]]:
    """Write what is treated differently as AutoRound takes it; 16 bits leave a layer alone."""
    return {
        name: {"bits": 16}
        if one.skip or name == HEAD
        else {"bits": one.bits or 4, "group_size": one.group_size or group_size}
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
    """Give a model whose layers llm-compressor is about to pack what was learned for them.

    Raises RunFailedError when it would pack other layers than those: they would be rounded plainly, under a wrong name.
    """
    from compressed_tensors.offload import update_offload_parameter

    packed = {name: module for name, module in model.named_modules() if hasattr(module, "quantization_scheme")}
    if differing := packed.keys() ^ tuned.keys():
        raise RunFailedError(
            f"AutoRound and llm-compressor do not mean the same layers: {len(differing)} differ, {min(differing)} first",
            where=WHERE,
            remedy=REMEDY,
        )
    for name, module in packed.items():
        one, bits = tuned[name], module.quantization_scheme.weights.num_bits
        update_offload_parameter(module, "weight", one.weight.to(module.weight.dtype))
        update_offload_parameter(module, "weight_scale", one.scale.to(module.weight_scale.dtype))
        if getattr(module, "weight_zero_point", None) is not None:
            # Theirs counts from the middle of the range.
            zero = one.zero.clamp(0, 2**bits - 1) - 2 ** (bits - 1)
            update_offload_parameter(module, "weight_zero_point", zero.to(module.weight_zero_point.dtype))
