"""Run the original and the packed checkpoint side by side over held-out windows (torch)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.quality import WindowStats


def window_stats(
    original: Any, quantized: Any, ids: NDArray[np.int64], advance: Callable[[int], None] = lambda _: None
) -> WindowStats:
    """Compare two causal models on `ids` (windows, window_tokens), a window at a time in fp32; no logits are kept.

    `original` and `quantized` may be the same object, which gives a KL of zero. `advance` hears each finished window.
    """
    import torch

    rows = []
    with torch.inference_mode():
        for number, window in enumerate(torch.from_numpy(ids), 1):
            rows.append(_one(original, quantized, window[None]))
            advance(number)
    columns = np.asarray(rows, dtype=np.float64).T
    return WindowStats(*columns)


def _one(original: Any, quantized: Any, window: Any) -> tuple[float, float, float, float]:
    from torch.nn.functional import log_softmax

    target = window[0, 1:, None]
    p = log_softmax(original(window).logits[0, :-1].float(), dim=-1)
    q = p if quantized is original else log_softmax(quantized(window).logits[0, :-1].float(), dim=-1)
    nll = -q.gather(1, target).mean()
    original_nll = -p.gather(1, target).mean()
    kl = (p.exp() * (p - q)).sum(-1).mean()
    top1 = (p.argmax(-1) == q.argmax(-1)).float().mean()
    return float(nll), float(original_nll), float(kl), float(top1)


def load_dense(folder: Path) -> Any:
    """Load an unquantized checkpoint in fp32."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
