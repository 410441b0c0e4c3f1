"""Prompts as the server takes them: token ids where it can, else text of exactly so many tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tokenhour.bench.workload.request_plan import Ask, Ints, ids_of
from tokenhour.contracts.errors import InputError

_TRIES = 12
_BYTES_PER_TOKEN = 4  # of English, for a server whose tokenizer nobody has named


def exact_text(tokenizer: Any, ids: list[int]) -> str:
    """Return text that the tokenizer turns into exactly len(ids) tokens, close to what the ids say.

    Decoding and encoding again may merge tokens at the seams, so that the tail is cut or grown until the count is right.
    Raises ValueError when no such text is found.
    """
    wanted, taken = len(ids), list(ids)
    for attempt in range(_TRIES):
        text = str(tokenizer.decode(taken, skip_special_tokens=False))
        count = len(tokenizer.encode(text, add_special_tokens=False).ids)
        if count == wanted:
            return text
        if count > wanted:
            taken = taken[: len(taken) - (count - wanted)]
        else:
            taken += [ids[(attempt * 31 + k * 17) % wanted] for k in range(wanted - count)]
    raise ValueError(f"no text of exactly {wanted} tokens was found")


def text_of(tokenizer: Any, ids: list[int]) -> str:
    """Like `exact_text`, trying other seams before giving up; the last resort is a token off, and the usage will say so."""
    for shift in range(4):
        try:
            return exact_text(tokenizer, ids[shift:] + ids[:shift])
        except ValueError:
            continue
    return str(tokenizer.decode(ids, skip_special_tokens=False))


def bundled_text() -> str:
    """Return the text that prompts are cut from: free, and part of every Python."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def bundled_bytes() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return its letters in ASCII, for a server whose tokenizer nobody has named."""
    return np.frombuffer(bundled_text().encode("ascii", "replace"), dtype=np.uint8)


def id_maker(text: Ints, salt: str, prefix_tokens: int) -> Callable[[Ask], list[int]]:
    """Return what turns an ask into the token ids of its prompt."""
    return lambda ask: ids_of(ask, text, salt, prefix_tokens)


def text_maker(text: Ints, salt: str, prefix_tokens: int, tokenizer_file: str | None, overhead: int) -> Callable[[Ask], str]:
    """Return what turns an ask into text, with room for the `overhead` tokens that the server's template adds."""
    tokenizer = load_tokenizer(tokenizer_file) if tokenizer_file else None
    words = text if tokenizer is None else stable(tokenizer, text)

    def ids(ask: Ask) -> list[int]:
        found = ids_of(ask, words, salt, prefix_tokens)
        return found[: max(1, len(found) - overhead)]

    if tokenizer is None:
        letters = bundled_bytes()
        return lambda ask: _rough(letters, ids(ask))
    return lambda ask: text_of(tokenizer, ids(ask))


def load_tokenizer(file: str | Path) -> Any:
    """Load a model's tokenizer. Raises InputError."""
    from tokenizers import Tokenizer

    where, remedy = "model or load file", "name a tokenizer.json"
    if not Path(file).is_file():
        raise InputError(f"tokenizer = {str(file)!r}: no such file", where=where, remedy=remedy)
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library has no narrower one
        raise InputError(f"tokenizer = {str(file)!r}: not readable: {error}", where=where, remedy=remedy) from error


def stable(tokenizer: Any, text: Ints) -> Ints:
    """Leave out the ids that do not survive decoding and encoding, such as unknown words and halves of letters."""
    unique = np.unique(text)
    spelt = [tokenizer.decode([int(i)], skip_special_tokens=False) for i in unique]
    again = tokenizer.encode_batch(spelt, add_special_tokens=False)
    kept = [i for i, found in zip(unique, again, strict=True) if len(found.ids) == 1]
    return text[np.isin(text, kept)] if kept else text


def _rough(letters: np.ndarray[Any, np.dtype[np.uint8]], ids: list[int]) -> str:
    """Cut about as much text as so many tokens; the first ids, which hold the salt, are spelt out as words."""
    salt = " ".join(f"{i:x}" for i in ids[:4])
    start = sum(ids[4:8]) * 7919 % len(letters)
    left = max(0, len(ids) * _BYTES_PER_TOKEN - len(salt) - 1)
    piece = np.take(letters, np.arange(start, start + left), mode="wrap").tobytes().decode()
    return f"{salt} {piece}"
