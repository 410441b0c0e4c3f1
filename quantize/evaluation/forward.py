"""Run the original and the packed checkpoint side by side over held-out windows and fixed prompts (torch)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenhour.contracts.errors import InputError
from tokenhour.quantize.evaluation.cached_states import logits, run
from tokenhour.quantize.evaluation.statistics import TOP, WindowStats, listed_kl
from tokenhour.quantize.model.load import causal_model

Choices = list[NDArray[np.bool_]]
# Positions that are compared at once: what they need stays in the caches instead of taking 100 MB a temporary.
_ROWS = 16
# Answers that are checked at once: their logits are held, a vocabulary a token.
_ANSWERS = 4


def window_stats(
    original: Any,
    quantized: Any,
    ids: NDArray[np.int64],
    advance: Callable[[int], None] = lambda _: None,
    states: NDArray[np.float32] | None = None,
) -> WindowStats:
    """Compare two causal models on `ids` (windows, window_tokens), a window at a time in fp32; no logits are kept.

    `original` and `quantized` may be the same object, which gives a KL of zero. `advance` hears each finished window.
    `states` (windows, window_tokens, width) are the original's, where they are known: only its output layer is run then.
    """
    import torch

    rows = []
    with torch.inference_mode():
        for k, window in enumerate(torch.from_numpy(ids)):
            p = run(original, window[None])[0] if states is None else logits(original, states[k])
            q = p if quantized is original else run(quantized, window[None])[0]
            rows.append(_one(p[:-1], q[:-1], window))
            advance(k + 1)
    columns = np.asarray(rows, dtype=np.float64).T
    return WindowStats(*columns)


def _one(p: Any, q: Any, window: Any) -> tuple[float, ...]:
    parts = [_compare(p[k : k + _ROWS], q[k : k + _ROWS], window[1 + k : 1 + k + _ROWS]) for k in range(0, len(p), _ROWS)]
    return tuple(sum(column) / len(p) for column in zip(*parts, strict=True))


def _compare(p: Any, q: Any, target: Any) -> tuple[float, ...]:
    """Sum over positions: both negative log-likelihoods, KL(p || q), equal first choices, listed KL; p, q: logits (n, V)."""
    import torch

    p, q = p.float(), q.float()
    log_zp, log_zq = p.logsumexp(-1), q.logsumexp(-1)
    # log p - log q = (logit_p - logit_q) - (log Z_p - log Z_q), and p sums to one.
    kl = torch.linalg.vecdot(p.softmax(-1), p - q) - (log_zp - log_zq)
    nll = log_zq - q.gather(1, target[:, None])[:, 0]
    original_nll = log_zp - p.gather(1, target[:, None])[:, 0]
    same = p.argmax(-1) == q.argmax(-1)
    top, ids = q.topk(min(TOP, q.shape[-1]), -1)
    listed = listed_kl(*((x - z[:, None]).double().numpy() for x, z in ((p.gather(1, ids), log_zp), (top, log_zq))))
    return float(nll.sum()), float(original_nll.sum()), float(kl.sum()), float(same.sum()), float(listed.sum())


def greedy_answers(original: Any, prompts: Sequence[list[int]], tokens: int) -> list[tuple[list[int], list[int]]]:
    """Answer the prompts (token ids) greedily, all at once, with at most `tokens` each; return (prompt, answer) pairs."""
    import torch

    width = max(map(len, prompts))
    # No prompt sees what fills it up at its left, so that any token will do.
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    seen = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.inference_mode():
        found = original.generate(
            ids,
            attention_mask=seen,
            do_sample=False,
            max_new_tokens=tokens,
            pad_token_id=original.config.pad_token_id or 0,
        )
    ends = original.generation_config.eos_token_id
    last = set(ends) if isinstance(ends, list) else {ends}
    return [(prompt, _ended(row[width:].tolist(), last)) for prompt, row in zip(prompts, found, strict=True)]


def _ended(answer: list[int], last: set[int | None]) -> list[int]:
    """Cut off what fills an answer up behind its end."""
    return next((answer[: k + 1] for k, token in enumerate(answer) if token in last), answer)


def same_choices(quantized: Any, answers: Sequence[tuple[list[int], list[int]]]) -> Choices:
    """Tell for each token of each answer whether `quantized` would choose it after all that stands before it.

    One pass over a given answer finds where greedy decoding would part from it, without decoding.
    """
    import torch

    found: Choices = []
    with torch.inference_mode():
        for k in range(0, len(answers), _ANSWERS):
            part = answers[k : k + _ANSWERS]
            width = max(len(prompt) + len(answer) for prompt, answer in part)
            # No token sees what comes behind it, so that any will do to fill up with.
            texts = [prompt + answer + [0] * (width - len(prompt) - len(answer)) for prompt, answer in part]
            for (prompt, answer), likely in zip(part, run(quantized, torch.tensor(texts)).argmax(-1).numpy(), strict=True):
                begin = len(prompt) - 1
                found.append(likely[begin : begin + len(answer)] == np.asarray(answer))
    return found


def logprobs(model: Any, window: NDArray[np.int64], states: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Return the next tokens' log-probabilities at each position of a window but the last, (window_tokens - 1, vocabulary).

    `states` (window_tokens, width) are the model's for this window, where they are known.
    """
    import torch

    with torch.inference_mode():
        rows = run(model, torch.from_numpy(window)[None])[0] if states is None else logits(model, states)
        found: NDArray[np.float32] = rows[:-1].float().log_softmax(-1).numpy()
    return found


def load_dense(folder: Path, *, trusted: bool = False) -> Any:
    """Load an unquantized checkpoint in fp32. Raises InputError where tensors are missing."""
    import torch

    model, found = causal_model(folder, trusted=trusted, dtype=torch.float32, output_loading_info=True)
    if absent := sorted(found["missing_keys"]):
        # transformers would go on with random numbers in their place.
        raise InputError(
            f"{len(absent)} tensors are missing: {absent[0]}",
            where=str(folder),
            remedy="fetch or copy the weights again, all their files",
        )
    return model.eval()
