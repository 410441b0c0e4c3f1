"""What the original's output layer was given on the held-out windows: its logits again, without running the rest (torch).

Each checkpoint of a model is compared with the same original on the same windows. Its last hidden states, once stored, stand
for all its layers but the last: for a 135M model with 49,152 words a fifth of the work, for larger ones a few percent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

STATES_FILE = "evaluation-states.npy"  # of the original, in its checkpoint: (windows, window_tokens, width), fp32
# Logits of a language model spread over tens: what another order of summation changes in fp32 is a hundred times less.
_SAME_LOGITS = 1e-3
# Tokens of the first window whose logits are looked at: a state knows nothing of the tokens behind it.
_CHECKED = 64


def run(model: Any, ids: Any) -> Any:
    """Return the logits (rows, tokens, vocabulary) of token ids (rows, tokens); nothing is kept for further tokens."""
    return model(ids, use_cache=False).logits


def _head(model: Any) -> Any | None:
    """Return the output layer, None where the model names none."""
    find = getattr(model, "get_output_embeddings", None)
    return find() if find else None


@contextlib.contextmanager
def recorded(model: Any) -> Iterator[list[NDArray[np.float32]]]:
    """Collect what the output layer is given in the block, (tokens, width) a window; nothing where a model names none."""
    found: list[NDArray[np.float32]] = []
    head = _head(model)
    if head is None:
        yield found
        return
    hook = head.register_forward_pre_hook(lambda _, given: found.append(given[0][0].float().cpu().numpy().copy()))
    try:
        yield found
    finally:
        hook.remove()


def stored(file: Path, original: Any, ids: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Read the states of these windows; None where they do not give the logits that the original gives for the first.

    A model may do more than its output layer (scale or cap the logits), and a folder may be older than this file.
    """
    import torch

    try:
        states: NDArray[np.float32] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    if states.shape[:2] != ids.shape or _head(original) is None:
        return None
    with torch.inference_mode():
        given = run(original, torch.from_numpy(ids[:1, :_CHECKED]))[0]
        again = logits(original, states[0, :_CHECKED])
    return states if again.shape == given.shape and float((again - given).abs().max()) <= _SAME_LOGITS else None


def logits(original: Any, states: NDArray[np.float32]) -> Any:
    """Return the logits (tokens, vocabulary) that the original's output layer makes of a window's states."""
    import torch

    head = original.get_output_embeddings()
    return head(torch.from_numpy(np.array(states)).to(head.weight.dtype))
