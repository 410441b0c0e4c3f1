"""One request to come, and its prompt's token ids. What the generator needs of the workload; it imports no pydantic."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenhour.contracts.config.bench import SALT_TOKENS

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to come. Everything but the token ids themselves, which `ids_of` derives from it."""

    serial: int
    at_s: float | None
    """Arrival, s after the probe's start; None in a closed loop, and for a conversation's later turns."""
    prompt_tokens: int
    output_tokens: int
    start: int
    """Where in the text the prompt begins."""
    prefix: int = -1
    """Which group's prefix it shares; -1: none."""
    earlier: tuple[tuple[int, int, int], ...] = ()
    """Earlier turns of its conversation: (start, new tokens, answer tokens)."""


class Supply:
    """A worker's conversations for a closed loop, without end: once used up they come again under new numbers.

    And so with another salt. The first `early` ones end early, as only a loop's first ones should: they come once.
    """

    def __init__(self, talks: list[list[Ask]], early: int, workers: int) -> None:
        self.talks = talks
        self.again = talks[early:] or talks
        self.numbers = len(talks) * workers * max(map(len, self.again), default=1)
        """How far the serials of a round reach, over all workers."""
        self.taken = 0

    def take(self) -> list[Ask]:
        """Hand out the next one."""
        number, self.taken = self.taken, self.taken + 1
        if number < len(self.talks):
            return self.talks[number]
        turn, at = divmod(number - len(self.talks), len(self.again))
        return [replace(ask, serial=ask.serial + (turn + 1) * self.numbers) for ask in self.again[at]]


def cut(text: Ints, length: int, start: int, salt: str) -> Ints:
    """Cut `length` token ids from the text; the first ones are replaced by a salt that nothing else shares.

    The salt is drawn from the text itself, so that every id is an ordinary one.
    """
    ids = np.take(text, np.arange(start, start + length), mode="wrap")
    digest = hashlib.sha256(salt.encode()).digest()
    picks = np.frombuffer(digest, dtype=np.uint32)[: min(SALT_TOKENS, length)]
    ids[: len(picks)] = text[picks % len(text)]
    return ids


def ids_of(ask: Ask, text: Ints, salt: str, prefix_tokens: int = 0) -> list[int]:
    """Return the prompt's token ids: exactly `prompt_tokens` of them."""
    parts, talk = [], ask.serial - len(ask.earlier)
    if ask.prefix >= 0:
        parts.append(cut(text, prefix_tokens, ask.prefix * 7919, f"{salt}:prefix {ask.prefix}"))
    for k, (start, new, answer) in enumerate(ask.earlier):
        parts.append(cut(text, new, start, f"{salt}:{talk}:{k}"))
        parts.append(cut(text, answer, start + new, f"{salt}:{talk}:{k}:answer"))
    left = ask.prompt_tokens - sum(len(part) for part in parts)
    parts.append(cut(text, left, ask.start, f"{salt}:{talk}:{len(ask.earlier)}"))
    found: list[int] = np.concatenate(parts).tolist()
    return found


_row = attrgetter(*(f.name for f in fields(Ask)))


def as_rows(talks: list[list[Ask]]) -> list[list[tuple[Any, ...]]]:
    """Turn conversations into what JSON can hold: each request its fields in their order."""
    return [[_row(ask) for ask in talk] for talk in talks]


def from_rows(talks: list[list[list[Any]]]) -> list[list[Ask]]:
    """Read what `as_rows` made."""
    return [[Ask(*[*row[:-1], tuple(map(tuple, row[-1]))]) for row in talk] for talk in talks]
