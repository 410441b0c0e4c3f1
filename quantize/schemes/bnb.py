"""What the bitsandbytes schemes share: transformers packs while it loads, and saves what it packed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quantize.loading import causal_model, tokenizer_of
from quantize.schemes import Job, skipped_names


def run(job: Job, **settings: Any) -> list[str]:
    """Pack every linear layer but the skipped ones into `job.target`; return the names that were skipped."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

    with torch.device("meta"):
        config = AutoConfig.from_pretrained(job.original, trust_remote_code=job.trusted)
        skeleton = AutoModelForCausalLM.from_config(config, trust_remote_code=job.trusted)
    names = [name for name, module in skeleton.named_modules() if isinstance(module, torch.nn.Linear)]
    skipped = skipped_names(job.spec, names)
    packing = BitsAndBytesConfig(llm_int8_skip_modules=skipped, **settings)
    model = causal_model(
        job.original, trusted=job.trusted, quantization_config=packing, dtype=torch.bfloat16, device_map="cpu"
    )
    model.save_pretrained(job.target)
    tokenizer_of(job.original, trusted=job.trusted).save_pretrained(job.target)
    return skipped


def load(folder: Path, *, trusted: bool = False) -> Any:
    """Load the packed checkpoint; its layers compute as bitsandbytes does."""
    import torch

    return causal_model(folder, trusted=trusted, dtype=torch.bfloat16, device_map="cpu").eval()
