"""What the GPTQModel schemes share: calibrated rounding in the auto-gptq format."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from tokenhour.machine.hardware import usable_cpus
from tokenhour.quantize.model.layer_rules import HEAD, Layers, said, wants_head, with_wholes
from tokenhour.quantize.model.load import tokenizer_of
from tokenhour.quantize.scheme_table import Job, Recipe

DAMPENING = 0.05
# The power of the error that a group's scale minimizes.
SCALE_SEARCH_NORM = 2.4


def run(job: Job, bits: int) -> Recipe:
    """Quantize every linear layer of the decoder to `bits` with GPTQ (arXiv 2210.17323), symmetric, in groups.

    Act-order is GPTQModel's group-aware one, which leaves the groups where they are: engines no longer run the other.
    """
    # gptqmodel reads it when it is imported: its default of one worker contradicts its own loader on two cores.
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", str(max(2, usable_cpus())))
    import torch
    from gptqmodel import GPTQModel, QuantizeConfig

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    original, target = job.original.resolve(), job.target.resolve()
    spec, dampening = job.spec, job.spec.dampening or DAMPENING
    # 8 bits lose next to nothing without it.
    searched = spec.scale_search and bits == 4
    config = QuantizeConfig(
        bits=bits,
        group_size=job.group_size,
        sym=True,
        desc_act=False,
        act_group_aware=spec.act_order,
        damp_percent=dampening,
        mse=SCALE_SEARCH_NORM if searched else 0.0,
        dynamic=dynamic(job.layers) or None,
    )
    windows = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in job.calibration.tolist()]
    # The library writes a folder `logs` wherever the process stands.
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        model = GPTQModel.load(str(original), config, device=device, trust_remote_code=job.trusted)
        model.quantize(windows, batch_size=1)
        model.save(str(target))
    tokenizer_of(original, trusted=job.trusted).save_pretrained(target)
    return {
        "method": "GPTQ",
        "weights": f"int{bits} symmetric, groups of {job.group_size}",
        "group_size": job.group_size,
        "symmetric": True,
        "act_order": spec.act_order,
        "scale_search": searched,
        "dampening": dampening,
        **said(spec),
        # The library packs the decoder's layers alone, whatever it is asked.
        "ignore": [*spec.ignore, *([HEAD] if wants_head(spec) else [])],
    }


def dynamic(layers: Layers) -> dict[str, dict[str, int]]:
    """Write what is treated differently as GPTQModel's `dynamic`: "-:regex" leaves out, "+:regex" sets.

    vLLM reads the same rules under the names of the layers that it computes as one, so those stand in them as well.
    """
    named = with_wholes({name: treatment for name, treatment in layers.items() if name != HEAD})
    found: dict[str, dict[str, int]] = {}
    for treatment in dict.fromkeys(named.values()):
        names = "|".join(re.escape(name) for name, other in named.items() if other == treatment)
        settings = {"bits": treatment.bits, "group_size": treatment.group_size}
        given = {key: value for key, value in settings.items() if value is not None}
        found[rf"{'-' if treatment.skip else '+'}:(?:.*\.)?(?:{names})$"] = given
    return found


def load(folder: Path, *, trusted: bool = False) -> Any:
    """Load the packed integers and unpack them into dense fp32 layers, so that only the rounding differs."""
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", str(max(2, usable_cpus())))
    import torch
    from gptqmodel import BACKEND, GPTQModel
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear

    model = GPTQModel.load(
        str(folder), device="cpu", backend=BACKEND.TORCH, dtype=torch.bfloat16, trust_remote_code=trusted
    ).model
    for name, packed in [(n, m) for n, m in model.named_modules() if isinstance(m, BaseQuantLinear)]:
        weight = packed.dequantize_weight().T.float()
        dense = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=packed.bias is not None)
        dense.weight.data = weight.contiguous()
        if packed.bias is not None:
            dense.bias.data = packed.bias.float()
        model.set_submodule(name, dense)
    return model.float().eval()
