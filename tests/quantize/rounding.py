"""A scheme for tests: round weights to a coarse grid; or wait half-way, or fail, when the environment says so."""

import os
import time
from pathlib import Path

from tokenhour.quantize.evaluation.forward import load_dense
from tokenhour.quantize.scheme_table import Job, Recipe

load = load_dense
GRID = 16


def make(job: Job) -> Recipe:
    """Round the weights to the grid, or wait or fail as the environment says."""
    os.write(1, b"layer 1/2\n")
    (job.target / "model.safetensors").write_bytes(b"half")
    if wait := os.environ.get("ROUNDING_WAITS"):
        Path(wait).write_text(str(os.getpid()))
        time.sleep(60)
    if os.environ.get("ROUNDING_FAILS"):
        raise OSError(int(os.environ["ROUNDING_FAILS"]), "as asked")
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(job.original, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter * GRID).round() / GRID)
    model.save_pretrained(job.target)
    return {"method": "grid", "group_size": job.group_size}
