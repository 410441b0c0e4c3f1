# ruff: noqa: INP001 (beside the packages: the engine's interpreter imports it, the house never does)
"""A vLLM plugin, loaded by the engine's own process: dummy weights whose quantized tensors hold random numbers.

vLLM's dummy loader leaves integer weights as the memory was and fills FP8 ones with values that round to nothing. Bits that
do not toggle draw less power and let a GPU clock higher: speed and energy of the quantized formats would be flattered. Only
the numbers differ from vLLM's own loader; kernels, shapes and scheduling are untouched.
"""

from __future__ import annotations

import os
from typing import Any

SWITCH = "TOKENHOUR_RANDOM_BITS"
# Spreads of a bell curve that is scaled so that its largest value fits the format, as quantizers do.
_INT8_SPREAD, _FP8_SPREAD, _FP8_LARGEST = 32.0, 112.0, 448.0
_ROWS = 4096


def fill(name: str, tensor: Any) -> bool:
    """Fill one tensor with random numbers of its format; say whether it was one of a quantized layer."""
    import torch

    leaf = name.rsplit(".", 1)[-1]
    if tensor.device.type == "meta":
        return False
    if tensor.dtype == torch.int32 and leaf == "weight_packed":
        tensor.random_(-(2**31), 2**31 - 1)
    elif tensor.dtype == torch.int8 and leaf == "weight":
        _bell(tensor, _INT8_SPREAD, 127.0)
    elif tensor.dtype == torch.float8_e4m3fn and leaf == "weight":
        _bell(tensor, _FP8_SPREAD, _FP8_LARGEST)
    elif torch.is_floating_point(tensor) and leaf == "weight_scale":
        tensor.uniform_(1e-4, 1e-3)
    else:
        return False
    return True


def _bell(tensor: Any, spread: float, largest: float) -> None:
    import torch

    for rows in tensor.reshape(-1, tensor.shape[-1]).split(_ROWS):
        drawn = torch.empty(rows.shape, dtype=torch.float16, device=rows.device)
        rows.copy_(drawn.normal_(0.0, spread).clamp_(-largest, largest))


def register() -> None:
    """Stand in for the load format `dummy`, where the switch is set."""
    if os.environ.get(SWITCH) != "1":
        return
    from vllm.logger import init_logger
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

    class RandomBits(DummyModelLoader):
        """vLLM's dummy loader, then random numbers in what is quantized."""

        def load_weights(self, model: Any, model_config: Any) -> None:
            super().load_weights(model, model_config)
            named = (*model.named_parameters(), *model.named_buffers())
            filled = sum(fill(name, tensor.data) for name, tensor in named)
            init_logger("vllm.tokenhour").info("tokenhour: random numbers in %d quantized tensors", filled)

    register_model_loader("dummy")(RandomBits)
