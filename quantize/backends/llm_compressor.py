"""What the llm-compressor schemes share: one calibrated pass over the model, saved as compressed-tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenhour.quantize.library_output import say_passes
from tokenhour.quantize.model.load import causal_model, tokenizer_of
from tokenhour.quantize.scheme_table import Job


def run(job: Job, modifiers: list[Any], *, calibrated: bool = True, finish: Callable[[Any], None] | None = None) -> None:
    """Apply `modifiers`, with the job's calibration windows where they need any, and save the packed checkpoint.

    `finish` is given the model before it is packed.
    """
    import torch
    from datasets import Dataset
    from llmcompressor import oneshot

    model = causal_model(job.original, trusted=job.trusted, dtype=torch.bfloat16)
    tokenizer = tokenizer_of(job.original, trusted=job.trusted)
    text = {}
    if calibrated:
        windows = job.calibration.tolist()
        text = {
            "dataset": Dataset.from_dict({"input_ids": windows, "attention_mask": [[1] * len(row) for row in windows]}),
            "max_seq_length": job.calibration.shape[1],
            "num_calibration_samples": len(windows),
            "shuffle_calibration_samples": False,
            # Each modifier has a pass of its own: GPTQ must see the activations that smoothing has left.
            "pipeline": "independent",
        }
    say_passes(len(modifiers) if calibrated else 1)
    oneshot(model=model, tokenizer=tokenizer, recipe=modifiers, **text)
    if finish:
        finish(model)
    model.save_pretrained(job.target, save_compressed=True)
    tokenizer.save_pretrained(job.target)


def load(folder: Path, *, trusted: bool = False) -> Any:
    """Load a compressed-tensors checkpoint: weights decompressed, activations quantized as the recipe says."""
    import torch

    return causal_model(folder, trusted=trusted, dtype=torch.float32).eval()
