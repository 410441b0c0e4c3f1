"""Run the original and the packed checkpoint side by side over held-out windows and fixed prompts (torch)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.loading import causal_model
from quantize.quality import WindowStats

Choices = list[NDArray[np.bool_]]
# Positions that are compared at once: what they need stays in the caches instead of taking 100 MB a temporary.
_ROWS = 32


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
    p = original(window).logits[0, :-1]
    q = p if quantized is original else quantized(window).logits[0, :-1]
    parts = [_compare(p[k : k + _ROWS], q[k : k + _ROWS], window[0, 1 + k : 1 + k + _ROWS]) for k in range(0, len(p), _ROWS)]
    return tuple(sum(column) / len(p) for column in zip(*parts, strict=True))


def _compare(p: Any, q: Any, target: Any) -> tuple[float, float, float, float]:
    """Sum over positions: both negative log-likelihoods, KL(p || q), equal first choices; p, q are logits (n, V)."""
    p, q = p.float(), q.float()
    log_zp, log_zq = p.logsumexp(-1), q.logsumexp(-1)
    # log p - log q = (logit_p - logit_q) - (log Z_p - log Z_q), and p sums to one.
    kl = ((p - log_zp[:, None]).exp_() * (p - q)).sum(-1) - (log_zp - log_zq)
    nll = log_zq - q.gather(1, target[:, None])[:, 0]
    original_nll = log_zp - p.gather(1, target[:, None])[:, 0]
    same = p.argmax(-1) == q.argmax(-1)
    return float(nll.sum()), float(original_nll.sum()), float(kl.sum()), float(same.sum())


def greedy_answers(original: Any, prompts: Sequence[list[int]], tokens: int) -> list[tuple[list[int], list[int]]]:
    """Answer each prompt (token ids) greedily with at most `tokens`; return (prompt, answer) pairs."""
    import torch

    pairs = []
    with torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([prompt])
            # No pad token is needed for one prompt at a time; naming one keeps the library quiet.
            found = original.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=tokens,
                pad_token_id=original.config.pad_token_id or 0,
            )
            pairs.append((prompt, found[0, len(prompt) :].tolist()))
    return pairs


def same_choices(quantized: Any, answers: Sequence[tuple[list[int], list[int]]]) -> Choices:
    """Tell for each token of each answer whether `quantized` would choose it after all that stands before it.

    One pass over a given answer finds where greedy decoding would part from it, without decoding.
    """
    import torch

    found: Choices = []
    with torch.inference_mode():
        for prompt, answer in answers:
            logits = quantized(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
            found.append(np.asarray(logits.argmax(-1).tolist()) == np.asarray(answer))
    return found


def choices(model: Any, window: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the most likely next token at each position but the last of one window, shape (window_tokens - 1,)."""
    import torch

    with torch.inference_mode():
        found: NDArray[np.int64] = model(torch.from_numpy(window)[None]).logits[0, :-1].argmax(-1).numpy()
    return found


def load_dense(folder: Path, *, trusted: bool = False) -> Any:
    """Load an unquantized checkpoint in fp32."""
    import torch

    return causal_model(folder, trusted=trusted, dtype=torch.float32).eval()
