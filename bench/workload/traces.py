"""Requests from files: pairs of token counts and the public trace formats, checked line by line.

| format | where it is published | columns |
|---|---|---|
| azure | Azure LLM inference traces (2023, 2024) | TIMESTAMP, ContextTokens, GeneratedTokens |
| burstgpt | BurstGPT | Timestamp (s), Model, Request tokens, Response tokens, Total tokens, Log Type |
| mooncake | Mooncake | JSON lines: timestamp (ms), input_length, output_length, hash_ids |
| pairs | `bench import-log` | prompt_tokens, completion_tokens, and if there are any timestamp_s |

Lengths and times are taken; Mooncake's `hash_ids` (which blocks of prompts are shared) are not.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenhour.contracts.errors import InputError

Row = Mapping[str, Any]
_MILLISECONDS_ABOVE = 1e11  # in seconds the year 5138, in milliseconds 1973
_CALENDAR_ENDS_S = 253_402_300_800.0  # the year 10000
_LONGEST_FIELD = 2**31 - 1  # of a CSV file, characters: logs keep whole prompts, and Python's own limit is 131,072


@dataclass(frozen=True, slots=True)
class Format:
    """How a trace names its columns; `seconds` turns its timestamp into seconds."""

    prompt: str
    completion: str
    timestamp: str
    seconds: Callable[[Any], float]

    def fits(self, columns: set[str]) -> bool:
        """Tell whether a file with these columns is of this format."""
        return {self.prompt, self.completion} <= columns


def in_milliseconds(value: Any) -> bool:
    """Tell whether a time is a number too large for seconds."""
    try:
        return float(value) > _MILLISECONDS_ABOVE
    except (TypeError, ValueError, OverflowError):
        return False


def seconds_of(value: Any, *, milliseconds: bool = False) -> float:
    """Read a time: seconds as a number, or a date and time (ISO 8601; without a zone: UTC).

    A number above 1e11 is taken as milliseconds, and any with `milliseconds`. Raises ValueError or TypeError for what is no
    time between 1970 and 9999.
    """
    try:
        found = float(value)
    except OverflowError as error:
        raise ValueError(value) from error
    except ValueError:
        return _of_date(str(value))
    found = found / 1000 if milliseconds or in_milliseconds(found) else found
    if not 0 <= found < _CALENDAR_ENDS_S:
        raise ValueError(value)
    return found


def _of_date(value: str) -> float:
    text = value.strip().replace("Z", "+00:00")
    if "." in text:  # more digits of a second than Python reads
        head, _, tail = text.partition(".")
        digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
        text = f"{head}.{digits[:6]}{tail[len(digits) :]}"
    when = dt.datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=dt.UTC)).timestamp()


FORMATS = {
    "azure": Format("ContextTokens", "GeneratedTokens", "TIMESTAMP", seconds_of),
    "burstgpt": Format("Request tokens", "Response tokens", "Timestamp", seconds_of),
    "mooncake": Format("input_length", "output_length", "timestamp", lambda ms: seconds_of(ms, milliseconds=True)),
    "pairs": Format("prompt_tokens", "completion_tokens", "timestamp_s", seconds_of),
}


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of their times; `times_s` is None where the file has none."""

    prompt_tokens: NDArray[np.int64]
    completion_tokens: NDArray[np.int64]
    times_s: NDArray[np.float64] | None
    skipped: int = 0
    """Lines of zero tokens: failed requests in BurstGPT, left out."""


def rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) of a CSV file, or of JSON lines; InputError names the first bad line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            yield from _json_rows(stream, path) if first.lstrip().startswith("{") else _csv_rows(stream, path)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path), remedy="check the path") from error
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", where=str(path), remedy="save it as UTF-8") from error


def _json_rows(stream: Any, path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            raise _bad_line(f"not JSON: {error.msg}", f"{path}:{number}") from error
        if not isinstance(found, dict):
            raise _bad_line("not a JSON object", f"{path}:{number}")
        yield number, found


def _csv_rows(stream: Any, path: Path) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.DictReader(stream)
    try:
        for row in reader:
            if None in row or None in row.values():
                count = len(reader.fieldnames or ())
                raise _bad_line(f"has not the {count} columns of the first line", f"{path}:{reader.line_num}")
            yield reader.line_num, row
    except csv.Error as error:
        raise _bad_line(f"not CSV: {error}", f"{path}:{reader.line_num}") from error


def _bad_line(what: str, place: str) -> InputError:
    return InputError(what, where=place, remedy="correct or remove the line")


def number_of(row: Row, column: str, place: str) -> float:
    """Read a number from a row; InputError names line, column and value."""
    value = row.get(column)
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        found = float("nan")
    if not 0 <= found < float("inf"):
        raise _bad_line(f"{column} = {value!r} is not a count", place)
    return found


def choose(name: str, columns: set[str], path: Path) -> Format:
    """Return the format of that name, or for `auto` the one that the columns fit; InputError names what is missing."""
    if name == "auto":
        fitting = [f for f in FORMATS.values() if f.fits(columns)]
        if fitting:
            return fitting[0]
    elif FORMATS[name].fits(columns):
        return FORMATS[name]
    known = "; ".join(f"{n}: {f.prompt}, {f.completion}" for n, f in FORMATS.items())
    raise InputError(
        f"has the columns {', '.join(sorted(columns)) or '(none)'}; token counts are missing",
        where=str(path),
        remedy=f"rename the columns, or `tokenhour bench import-log` (known formats: {known})",
    )


def load(path: Path, name: str = "auto") -> Trace:
    """Read a whole trace. Raises InputError naming file, line, column and value."""
    prompts, completions, times, skipped = [], [], [], 0
    chosen: Format | None = None
    for number, row in rows(path):
        place = f"{path}:{number}"
        chosen = chosen or choose(name, set(row), path)
        prompt, completion = number_of(row, chosen.prompt, place), number_of(row, chosen.completion, place)
        if not prompt or not completion:
            skipped += 1
            continue
        prompts.append(round(prompt))
        completions.append(round(completion))
        if chosen.timestamp in row:
            try:
                times.append(chosen.seconds(row[chosen.timestamp]))
            except (TypeError, ValueError) as error:
                said = f"{chosen.timestamp} = {row[chosen.timestamp]!r} is no time"
                raise InputError(said, where=place, remedy="seconds, or a date and time as ISO 8601") from error
    if not prompts:
        raise InputError("has no request", where=str(path), remedy="check the file")
    if len(times) != len(prompts):
        return Trace(np.asarray(prompts), np.asarray(completions), None, skipped)
    order = np.argsort(np.asarray(times), kind="stable")
    return Trace(np.asarray(prompts)[order], np.asarray(completions)[order], np.asarray(times)[order], skipped)
