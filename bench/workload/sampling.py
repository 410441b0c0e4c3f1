"""What is asked: token lengths and prompts of exactly that many tokens. All from seeds, none from a clock."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokenhour.bench.workload.prompts import bundled_bytes, bundled_text, load_tokenizer
from tokenhour.bench.workload.request_plan import Ask, Ints
from tokenhour.bench.workload.traces import Trace, load
from tokenhour.contracts.config.bench import BenchSpec, LengthSpec, WorkloadSpec
from tokenhour.contracts.errors import InputError

TEXT_SOURCE = "Python's documentation topics (module pydoc_data), PSF licence version 2"


@dataclass(frozen=True, slots=True)
class PromptSource:
    """Where prompts come from: the served model's token ids of the bundled text, and requests from a file."""

    text: Ints
    trace: Trace | None = None


def lengths(spec: LengthSpec, count: int, rng: np.random.Generator) -> Ints:
    """Draw `count` token lengths, cut to [min_tokens, max_tokens].

    `lognormal` has the stated mean and coefficient of variation before cutting: sigma^2 = ln(1 + cv^2),
    mu = ln(mean) - sigma^2 / 2. `uniform` draws whole numbers from min_tokens to max_tokens, both among them.
    """
    if spec.distribution == "fixed":
        return np.full(count, round(spec.mean_tokens), dtype=np.int64)
    if spec.distribution == "uniform":
        drawn = rng.integers(spec.min_tokens, spec.max_tokens + 1, size=count)
        return drawn.astype(np.int64)
    sigma = np.sqrt(np.log1p(spec.cv**2))
    drawn_floats = rng.lognormal(np.log(spec.mean_tokens) - sigma**2 / 2, sigma, size=count)
    return np.clip(np.rint(drawn_floats), spec.min_tokens, spec.max_tokens).astype(np.int64)


def corpus(tokenizer_file: Path | None) -> Ints:
    """Tokenize the bundled text with the served model's tokenizer; byte values where nobody knows that one."""
    if tokenizer_file is None:
        return bundled_bytes().astype(np.int64)
    return np.asarray(load_tokenizer(tokenizer_file).encode(bundled_text(), add_special_tokens=False).ids, dtype=np.int64)


def source(spec: WorkloadSpec, text: Ints) -> PromptSource:
    """Read what the workload needs beside the text. Raises InputError for a bad file."""
    if spec.requests is None:
        return PromptSource(text)
    found = load(Path(spec.requests.file), spec.requests.format)
    if found.skipped:
        print(f"   {spec.requests.file}: left out lines of zero tokens (failed requests): {found.skipped}", file=sys.stderr)
    return PromptSource(text, found)


def check(spec: BenchSpec) -> None:
    """Read the file of requests before any server is asked. Raises InputError naming file, line and field."""
    trace = load(Path(spec.workload.requests.file), spec.workload.requests.format) if spec.workload.requests else None
    if spec.arrivals.process != "trace":
        return
    remedy = "add the times to the file, or choose another process"
    if trace is None or trace.times_s is None:
        what = "the process `trace` wants workload.requests with timestamps"
        raise InputError(what, where="arrivals.process", remedy=remedy)
    if trace.times_s[-1] <= trace.times_s[0]:
        raise InputError(
            "its requests all have the same time: there is no pattern to replay", where="workload.requests", remedy=remedy
        )


def turns_of(spec: WorkloadSpec) -> int:
    """Return how many requests an arrival makes: the turns of a conversation, else one."""
    return spec.conversations.turns if spec.conversations else 1


def asks(
    spec: WorkloadSpec,
    found: PromptSource,
    probe: int,
    arrivals: NDArray[np.float64] | int,
    *,
    serial_from: int | None = None,
) -> list[list[Ask]]:
    """Prepare a probe: one conversation (mostly of one request) an arrival, or `arrivals` many for a closed loop.

    `serial_from` (default: the probe) numbers the requests. The same seed and probe give the same lengths; the salt, which
    differs from run to run, enters in `ids_of`.
    """
    count = arrivals if isinstance(arrivals, int) else len(arrivals)
    turns = turns_of(spec)
    at = [None] * count if isinstance(arrivals, int) else arrivals.tolist()
    rng = np.random.default_rng([spec.seed, probe, 1])
    prompts, outputs = _lengths(spec, found.trace, count * turns, rng)
    starts = rng.integers(0, len(found.text), size=count * turns)
    groups = rng.integers(0, spec.shared_prefix.groups, size=count) if spec.shared_prefix else np.full(count, -1)
    return [
        _conversation(
            (probe if serial_from is None else serial_from) * 1_000_000 + k * turns,
            at[k],
            [(int(starts[j]), int(prompts[j]), int(outputs[j])) for j in range(k * turns, (k + 1) * turns)],
            int(groups[k]),
            spec.shared_prefix.tokens if spec.shared_prefix else 0,
        )
        for k in range(count)
    ]


def _lengths(spec: WorkloadSpec, trace: Trace | None, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Draw lengths, or walk through the file in its order (again from its beginning when it is short)."""
    if trace is not None:
        rows = np.arange(count) % len(trace.prompt_tokens)
        return trace.prompt_tokens[rows], trace.completion_tokens[rows]
    if spec.prompt is None or spec.output is None:
        raise AssertionError
    return lengths(spec.prompt, count, rng), lengths(spec.output, count, rng)


def _conversation(
    serial: int, at_s: float | None, turns: list[tuple[int, int, int]], prefix: int, prefix_tokens: int
) -> list[Ask]:
    found: list[Ask] = []
    earlier: list[tuple[int, int, int]] = []
    total = 0
    for k, (start, new, answer) in enumerate(turns):
        # Only the first turn holds the shared prefix; it is part of that turn's length.
        own = new - prefix_tokens if k == 0 and prefix >= 0 else new
        total += new
        found.append(Ask(serial + k, at_s if k == 0 else None, total, answer, start, prefix, tuple(earlier)))
        total += answer
        earlier.append((start, own, answer))
    return found


def staggered(planned: list[list[Ask]], count: int, rng: np.random.Generator) -> list[list[Ask]]:
    """Let the first `count` conversations of a closed loop end early, each at a random point of itself.

    `count`: how many requests the engine works on at once. All begin at the same moment. Left whole they would end together
    too, and the next ones again: the load swings between prompts alone and answers alone for many answers' time (on an H100
    from 6,000 to 19,000 tokens/s), and a window holds what it happens to hold. What ends at a random point leaves its user
    where one would be found at any moment. Those that wait in line at first have not begun: they stay whole.
    """
    shares = rng.random(min(count, len(planned)))
    return [_ended_at(talk, share) for talk, share in zip(planned, shares, strict=False)] + planned[len(shares) :]


def _ended_at(talk: list[Ask], share: float) -> list[Ask]:
    """Leave out the later turns, and cut the answer of the last one that is left: no later turn repeats it any more."""
    turn, part = divmod(share * len(talk), 1)
    last = talk[int(turn)]
    return [*talk[: int(turn)], replace(last, output_tokens=max(1, math.ceil(part * last.output_tokens)))]


def most_inside(planned: list[list[Ask]], think_s: float, start_s: float, end_s: float) -> int:
    """Return the most requests of an open-loop plan that can be scheduled in [start, end), s after the probe's start.

    Exact where every arrival is one request. A conversation's later turns wait for answers, so that nobody knows their times
    beforehand: each is counted that pauses of `think_s` alone do not put beyond the end, those of conversations that began
    in the lead-in as well. Only a number that is never too small makes a verdict before the end certain.
    """
    times = [(talk[0].at_s + k * think_s, k) for talk in planned if talk[0].at_s is not None for k in range(len(talk))]
    return sum(earliest < end_s and (turn > 0 or earliest >= start_s) for earliest, turn in times)


def expected_hit_rate(spec: WorkloadSpec, planned: list[list[Ask]], *, warm: bool = False) -> float:
    """Return the share of prompt tokens that repeat what was asked before: the most that a prefix cache can find.

    `warm`: an earlier probe of the run has asked for the shared prefixes already.
    """
    seen: set[int] = set()
    repeated = total = 0
    prefix_tokens = spec.shared_prefix.tokens if spec.shared_prefix else 0
    for conversation in planned:
        before = 0
        for ask in conversation:
            total += ask.prompt_tokens
            known = prefix_tokens if ask.prefix >= 0 and (warm or ask.prefix in seen) else 0
            repeated += max(before, known)
            before = ask.prompt_tokens
            if ask.prefix >= 0:
                seen.add(ask.prefix)
    return repeated / total if total else 0.0
