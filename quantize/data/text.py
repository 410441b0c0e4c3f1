"""Text for calibration and for evaluation: read, tokenized, cut into windows, and never the same for both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray

from tokenhour.contracts.config.model_quantize import TextSpec
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.atomic_io import sha256_of
from tokenhour.contracts.records.checkpoint import TextRecord
from tokenhour.quantize.source.hub import dataset_rows

BUNDLED = "bundled"
BUNDLED_LICENSE = "PSF-2.0"
HUB = "hub:"
# Of a text that serves both purposes the last third is for evaluation.
EVALUATION_SHARE = 1 / 3
# Two windows that share a run of this many tokens hold the same text, wherever it came from; of shorter windows, all of one.
OVERLAP_TOKENS = 64

Ids = NDArray[np.int64]


class Tokens(Protocol):
    """What a model's tokenizer does for us."""

    def encode(self, text: str) -> list[int]:
        """Return the token ids of plain text, without special tokens of its own."""

    def chat(self, messages: list[dict[str, str]]) -> str:
        """Return a conversation as the model's chat template writes it."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Token ids, int64, shape (windows, window_tokens), and where they came from."""

    ids: Ids
    record: TextRecord


def bundled_text() -> str:
    """Return the reference text that comes with every Python: its documentation topics (PSF licence), about 465 kB."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def read_text(spec: TextSpec, tokens: Tokens) -> str:
    """Read the bundled text, a text file, a .jsonl file or a hub dataset; conversations go through the chat template.

    Raises InputError for a missing file, a bad line, a missing field or a hub that cannot be reached.
    """
    if spec.source == BUNDLED:
        return bundled_text()
    if spec.source.startswith(HUB):
        return _join(dataset_rows(spec, spec.source.removeprefix(HUB)), spec, tokens)
    file = Path(spec.source).expanduser()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the text: {error}", where=spec.source, remedy="name a UTF-8 file, or use: bundled"
        ) from error
    return _join(_json_lines(text, spec.source), spec, tokens) if file.suffix == ".jsonl" else text


def _json_lines(text: str, source: str) -> Iterator[tuple[str, Any]]:
    # Not splitlines: JSON may hold U+2028, U+0085 and others as they are, which are no ends of a line here.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield f"{source}:{number}", json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"not JSON: {error}", where=f"{source}:{number}", remedy="correct or remove the line"
            ) from error


def _join(rows: Iterable[tuple[str, Any]], spec: TextSpec, tokens: Tokens) -> str:
    return "\n\n".join(document(row, spec.field, tokens, where) for where, row in rows)


def document(row: Any, field: str, tokens: Tokens, where: str) -> str:
    """Return the text of one row: `field`, or a conversation in `messages`, or a user's `prompt` (with its `completion`)."""
    match row:
        case {"messages": [*turns]} if all(_is_turn(turn) for turn in turns):
            return _chat([{"role": str(turn["role"]), "content": str(turn["content"])} for turn in turns], tokens, where)
        case {"prompt": str(prompt)} if field not in row:
            answer = row.get("completion")
            said = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else []
            return _chat([{"role": "user", "content": prompt}, *said], tokens, where)
        case Mapping() if isinstance(row.get(field), str):
            return str(row[field])
    raise InputError(
        f"neither a text in `{field}`, nor `messages`, nor a `prompt`", where=where, remedy="correct or remove the row"
    )


def _chat(messages: list[dict[str, str]], tokens: Tokens, where: str) -> str:
    try:
        return tokens.chat(messages)
    except TemplateError as error:  # many templates know only some roles, or want them in turn
        raise InputError(
            f"the model's chat template refuses this conversation: {error}", where=where, remedy="correct or remove the row"
        ) from error


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, Mapping) and {"role", "content"} <= set(turn)


def split(text: str, purpose: str) -> str:
    """Return the part of a text that belongs to `purpose` (calibration or evaluation).

    Cut at a paragraph, where none ends soon at a line, at a word, or in the midst: a last third without blank lines still
    is held-out text.
    """
    wanted = int(len(text) * (1 - EVALUATION_SHARE))
    soon = (wanted + len(text)) // 2
    places = (text.find(mark, wanted, soon) for mark in ("\n\n", "\n", " "))
    cut = next((place for place in places if place >= 0), wanted)
    return text[:cut] if purpose == "calibration" else text[cut:]


def evaluation_windows(spec: TextSpec, tokens: Tokens) -> Windows:
    """Cut the held-out windows, spread evenly over their part of the text. InputError when it is too short."""
    room = _room(spec, "evaluation", tokens)
    chosen = [int(k) for k in np.linspace(0, len(room) - 1, spec.windows)] if len(room) >= spec.windows else []
    return _cut(room, chosen, spec, "evaluation", None, 0)


def calibration_windows(spec: TextSpec, seed: int, held_out: Ids, tokens: Tokens) -> Windows:
    """Draw windows by `seed`, passing over those that share OVERLAP_TOKENS in a row with a held-out one.

    Where the windows of either are shorter than that, a whole one of the shorter. Windows do not overlap each other.
    InputError when the text has too few.
    """
    room = _room(spec, "calibration", tokens)
    # One length for both: runs of different lengths are never the same.
    length = min(OVERLAP_TOKENS, held_out.shape[1], spec.window_tokens)
    known = set(_runs(held_out, length))
    chosen: list[int] = []
    passed_over = 0
    for k in np.random.default_rng(seed).permutation(len(room)):
        if len(chosen) == spec.windows:
            break
        if known.isdisjoint(_runs(room[k : k + 1], length)):
            chosen.append(int(k))
        else:
            passed_over += 1
    return _cut(room, sorted(chosen), spec, "calibration", seed, passed_over)


def _room(spec: TextSpec, purpose: str, tokens: Tokens) -> Ids:
    """Return all windows of a purpose's part of the text, shape (room, window_tokens)."""
    ids = np.asarray(tokens.encode(split(read_text(spec, tokens), purpose)), dtype=np.int64)
    count = len(ids) // spec.window_tokens
    return ids[: count * spec.window_tokens].reshape(count, spec.window_tokens)


def _runs(windows: Ids, length: int) -> Iterator[bytes]:
    for row in np.lib.stride_tricks.sliding_window_view(windows, length, axis=1).reshape(-1, length):
        yield row.tobytes()


def _cut(room: Ids, chosen: list[int], spec: TextSpec, purpose: str, seed: int | None, passed_over: int) -> Windows:
    if len(chosen) < spec.windows:
        shared = f" ({passed_over} more share text with the evaluation)" if passed_over else ""
        raise InputError(
            f"the {purpose} text has {room.size} tokens: room for {len(room) - passed_over} windows of "
            f"{spec.window_tokens}{shared}, {spec.windows} are asked for",
            where=spec.source,
            remedy=f"ask for fewer or shorter windows (quantize.{purpose}.windows), or name a longer or another text",
        )
    bundled = spec.source == BUNDLED
    record = TextRecord(
        source="pydoc_data.topics (Python documentation)" if bundled else spec.source,
        license=BUNDLED_LICENSE if bundled else "the user's own" if not spec.source.startswith(HUB) else "see the dataset",
        windows=len(chosen),
        window_tokens=spec.window_tokens,
        seed=seed,
        passed_over=passed_over,
        sha256=sha256_of(room[chosen].tolist()),
    )
    return Windows(room[chosen], record)
