"""What the bitsandbytes schemes share: transformers packs while it loads, and saves what it packed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenhour.quantize.model.layer_rules import left_alone, with_wholes
from tokenhour.quantize.model.load import causal_model, tokenizer_of
from tokenhour.quantize.scheme_table import Job


def run(job: Job, **settings: Any) -> None:
    """Pack every linear layer but the skipped ones into `job.target`."""
    import torch
    from transformers import BitsAndBytesConfig

    # vLLM looks for the names of layers that it computes as one; transformers knows no such names and passes them over.
    packing = BitsAndBytesConfig(llm_int8_skip_modules=left_alone(job.spec, with_wholes(job.layers)), **settings)
    model = causal_model(
        job.original, trusted=job.trusted, quantization_config=packing, dtype=torch.bfloat16, device_map="cpu"
    )
    model.save_pretrained(job.target)
    tokenizer_of(job.original, trusted=job.trusted).save_pretrained(job.target)


def load(folder: Path, *, trusted: bool = False) -> Any:
    """Load the packed checkpoint; its layers compute as bitsandbytes does."""
    import torch

    return causal_model(folder, trusted=trusted, dtype=torch.bfloat16, device_map="cpu").eval()
