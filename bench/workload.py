"""What is asked: token lengths, prompts of exactly that many tokens, arrival times. All from seeds, none from a clock."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contracts.bench_spec import LengthSpec, WorkloadSpec

Ints = NDArray[np.int64]
SALT_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to come: its arrival (s after the probe's start; None in a closed loop), prompt ids, output length."""

    request_id: str
    at_s: float | None
    prompt: list[int]
    output_tokens: int


def lengths(spec: LengthSpec, count: int, rng: np.random.Generator) -> Ints:
    """Draw `count` token lengths, cut to [min_tokens, max_tokens].

    `lognormal` has the stated mean and coefficient of variation before cutting: sigma^2 = ln(1 + cv^2),
    mu = ln(mean) - sigma^2 / 2.
    """
    if spec.distribution == "fixed":
        return np.full(count, round(spec.mean_tokens), dtype=np.int64)
    if spec.distribution == "uniform":
        drawn = rng.integers(spec.min_tokens, spec.max_tokens + 1, size=count)
        return drawn.astype(np.int64)
    sigma = np.sqrt(np.log1p(spec.cv**2))
    drawn_floats = rng.lognormal(np.log(spec.mean_tokens) - sigma**2 / 2, sigma, size=count)
    return np.clip(np.rint(drawn_floats), spec.min_tokens, spec.max_tokens).astype(np.int64)


def poisson_arrivals(rate_rps: float, horizon_s: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return absolute arrival times in [0, horizon): exponential gaps, accumulated once, never re-anchored."""
    expected = rate_rps * horizon_s
    gaps = rng.exponential(1 / rate_rps, size=int(expected + 10 * np.sqrt(expected) + 20))
    times = np.cumsum(gaps)
    return times[times < horizon_s]


def corpus(tokenizer_file: Path) -> Ints:
    """Tokenize the bundled text (Python's documentation topics, PSF licence) with the served model's tokenizer."""
    from pydoc_data.topics import topics

    from tokenizers import Tokenizer

    text = "\n\n".join(topics[name] for name in sorted(topics))
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    return np.asarray(tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)


def prompt(text: Ints, length: int, start: int, salt: str, serial: int) -> list[int]:
    """Cut `length` token ids from the corpus; the first ones are replaced by a salt that no other prompt shares.

    The salt is drawn from the corpus itself, so that every id is an ordinary one.
    """
    ids = np.take(text, np.arange(start, start + length), mode="wrap")
    digest = hashlib.sha256(f"{salt}:{serial}".encode()).digest()
    picks = np.frombuffer(digest, dtype=np.uint32)[: min(SALT_TOKENS, length)]
    ids[: len(picks)] = text[picks % len(text)]
    found: list[int] = ids.tolist()
    return found


def asks(spec: WorkloadSpec, text: Ints, probe: int, salt: str, arrivals: NDArray[np.float64] | int) -> list[Ask]:
    """Prepare a probe's requests: one for each arrival time, or `arrivals` many for a closed loop.

    The same seed and probe give the same lengths and arrivals; the salt differs from run to run.
    """
    closed = isinstance(arrivals, int)
    count = arrivals if isinstance(arrivals, int) else len(arrivals)
    rng = np.random.default_rng([spec.seed, probe, 1])
    prompts, outputs = lengths(spec.prompt, count, rng), lengths(spec.output, count, rng)
    starts = rng.integers(0, len(text), size=count)
    return [
        Ask(
            f"{probe}-{k}",
            None if closed else float(arrivals[k]),  # type: ignore[index]
            prompt(text, int(prompts[k]), int(starts[k]), salt, probe * 1_000_000 + k),
            int(outputs[k]),
        )
        for k in range(count)
    ]


def arrival_rng(seed: int, probe: int) -> np.random.Generator:
    """Return the generator of a probe's arrival times, apart from that of its lengths."""
    return np.random.default_rng([seed, probe, 0])
