"""Text for calibration and for evaluation: two parts that never overlap, cut into windows of token ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contracts.checkpoint import TextRecord
from contracts.errors import InputError
from contracts.store import sha256_of

BUNDLED = "bundled"
BUNDLED_LICENSE = "PSF-2.0"
# Of a text that serves both purposes the last third is for evaluation.
EVALUATION_SHARE = 1 / 3


@dataclass(frozen=True, slots=True)
class Windows:
    """Token ids, int64, shape (windows, window_tokens), and where they came from."""

    ids: NDArray[np.int64]
    record: TextRecord


def bundled_text() -> str:
    """Return the reference text that comes with every Python: its documentation topics (PSF licence), about 465 kB."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def read_text(source: str) -> str:
    """Read the bundled text, a text file, or the field `text` of each line of a .jsonl file.

    Raises InputError for a missing file, a bad line or a missing field.
    """
    if source == BUNDLED:
        return bundled_text()
    file = Path(source).expanduser()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the text: {error}", where=source, remedy="name a UTF-8 file, or use: bundled"
        ) from error
    if file.suffix != ".jsonl":
        return text
    return "\n\n".join(_line_text(line, f"{source}:{n}") for n, line in enumerate(text.splitlines(), 1) if line.strip())


def _line_text(line: str, where: str) -> str:
    try:
        return str(json.loads(line)["text"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(
            "not a JSON object with a field `text`", where=where, remedy="correct or remove the line"
        ) from error


def split(text: str, purpose: str) -> str:
    """Return the part of a text that belongs to `purpose` (calibration or evaluation), cut at a paragraph."""
    cut = text.find("\n\n", int(len(text) * (1 - EVALUATION_SHARE)))
    cut = len(text) if cut < 0 else cut
    return text[:cut] if purpose == "calibration" else text[cut:]


def windows(
    source: str, purpose: str, count: int, window_tokens: int, seed: int | None, encode: Callable[[str], list[int]]
) -> Windows:
    """Cut `count` windows: at random places by `seed`, or spread evenly when it is None.

    Windows do not overlap each other. Raises InputError when the text is shorter than one window, or too short for `count`.
    """
    ids = np.asarray(encode(split(read_text(source), purpose)), dtype=np.int64)
    room = len(ids) // window_tokens
    if room < count:
        raise InputError(
            f"the {purpose} text has {len(ids)} tokens: room for {room} windows of {window_tokens}, {count} are asked for",
            where=source,
            remedy=f"ask for fewer or shorter windows (quantize.{purpose}.windows), or name a longer text",
        )
    if seed is None:
        chosen = np.linspace(0, room - 1, count).astype(np.int64)
    else:
        chosen = np.sort(np.random.default_rng(seed).choice(room, size=count, replace=False))
    cut = np.stack([ids[k * window_tokens : (k + 1) * window_tokens] for k in chosen])
    record = TextRecord(
        source="pydoc_data.topics (Python documentation)" if source == BUNDLED else source,
        license=BUNDLED_LICENSE if source == BUNDLED else "the user's own",
        windows=count,
        window_tokens=window_tokens,
        seed=seed,
        sha256=sha256_of(cut.tolist()),
    )
    return Windows(cut, record)
