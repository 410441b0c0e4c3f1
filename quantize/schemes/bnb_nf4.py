"""`bnb-nf4`: 4-bit NormalFloat of bitsandbytes in blocks of 64, absmax scales in 32 bits."""

from __future__ import annotations

from tokenhour.quantize.backends.bitsandbytes_load import load, run
from tokenhour.quantize.model.layer_rules import said
from tokenhour.quantize.scheme_table import Job, Recipe

__all__ = ["load", "make"]


def make(job: Job) -> Recipe:
    """Pack as NF4 (arXiv 2305.14314, without double quantization); no calibration text is read."""
    import torch

    run(job, load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    return {"method": "NF4", "weights": "nf4, blocks of 64", "double_quantization": False, **said(job.spec)}
