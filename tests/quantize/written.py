"""What a scheme wrote for the tiny model: the types of its tensors, the quantization of its config."""

import json
from pathlib import Path
from typing import Any

from tokenhour.contracts.records.checkpoint import Checkpoint

LINEARS = 14
"""Seven in each of two blocks."""
# The logits of random weights hardly differ: one layer of zeros costs 8e-5, INT4 up to 3e-5.
MOST_KL = 6e-5


def kinds(found: Checkpoint) -> list[str]:
    """List the types of the tensors that were written."""
    from safetensors import safe_open

    with safe_open(f"{found.path}/model.safetensors", framework="pt") as weights:
        return [weights.get_slice(name).get_dtype() for name in weights.keys()]  # noqa: SIM118 (no mapping)


def quantization(found: Checkpoint) -> dict[str, Any]:
    """Read the quantization that the written config declares."""
    return json.loads((Path(found.path) / "config.json").read_text())["quantization_config"]
