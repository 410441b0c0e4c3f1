"""What the bitsandbytes schemes share: transformers packs while it loads, and saves what it packed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quantize.schemes import Job, skipped_names


def run(job: Job, **settings: Any) -> list[str]:
    """Pack every linear layer but the skipped ones into `job.target`; return the names that were skipped."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(_config(job.original))
    names = [name for name, module in skeleton.named_modules() if isinstance(module, torch.nn.Linear)]
    skipped = skipped_names(job.spec, names)
    config = BitsAndBytesConfig(llm_int8_skip_modules=skipped, **settings)
    model = AutoModelForCausalLM.from_pretrained(
        job.original, quantization_config=config, dtype=torch.bfloat16, device_map="cpu"
    )
    model.save_pretrained(job.target)
    AutoTokenizer.from_pretrained(job.original).save_pretrained(job.target)
    return skipped


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder)


def load(folder: Path) -> Any:
    """Load the packed checkpoint; its layers compute as bitsandbytes does."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map="cpu").eval()
