"""The shape of demand: hourly weights around a mean of 1, from a day, a week, an imported log or an hourly trace."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokenhour.contracts.config.economics import ProfileSpec
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.verdict import Badge
from tokenhour.contracts.standalone.traffic_profile import TrafficProfile

FLAT: tuple[float, ...] = (1.0,)
TRACE_COLUMNS = ({"tokens"}, {"input_tokens", "output_tokens"})
HOURS_A_YEAR = 8784


@dataclass(frozen=True, slots=True)
class Demand:
    """Weights of consecutive hours (mean 1), what a log said besides, and where all that comes from."""

    weights: tuple[float, ...] = FLAT
    source: str = "flat over the month"
    badge: Badge = "assumed"
    log: TrafficProfile | None = None
    tokens_per_month: float | None = None
    """What the trace or log amounts to, scaled to 730 h."""

    def array(self) -> NDArray[np.float64]:
        """Return the weights, shape (hours,)."""
        return np.asarray(self.weights, dtype=np.float64)


def read(spec: ProfileSpec | None) -> Demand:
    """Read a profile; InputError names the file and what is wrong with it."""
    if spec is None:
        return Demand()
    if spec.hours is not None:
        days = "24 hours, every day alike" if len(spec.hours) == 24 else "168 hours of a week"
        return Demand(around_one(spec.hours, "economics.profile.hours"), days)
    if spec.file is not None:
        log = TrafficProfile.read(Path(spec.file))
        weights = around_one(log.hourly_share, spec.file)
        return Demand(weights, f"{spec.file}: {log.source}", "measured", log, log.tokens_per_month())
    path = Path(spec.trace or "")
    tokens = read_trace(path)
    month = sum(tokens) / len(tokens) * 730.0
    return Demand(around_one(tokens, str(path)), f"{path}, {len(tokens)} hours", "measured", None, month)


def around_one(values: tuple[float, ...] | list[float], where: str) -> tuple[float, ...]:
    """Scale weights to a mean of 1; InputError when they sum to zero."""
    mean = sum(values) / len(values)
    if mean <= 0:
        raise InputError("the profile sums to zero", where=where, remedy="give at least one hour some demand")
    return tuple(value / mean for value in values)


def read_trace(path: Path) -> list[float]:
    """Read tokens an hour from a CSV with a `tokens` column, or `input_tokens` and `output_tokens`."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            columns = next((wanted for wanted in TRACE_COLUMNS if wanted <= set(reader.fieldnames or ())), None)
            if columns is None:
                raise InputError(
                    f"columns are {', '.join(reader.fieldnames or ()) or 'missing'}",
                    where=str(path),
                    remedy="give a header with `tokens`, or with `input_tokens` and `output_tokens`; a row an hour",
                )
            found = [sum(_number(row[name], path, reader.line_num, name) for name in columns) for row in reader]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path), remedy="name a CSV file of hourly tokens") from error
    if not 1 <= len(found) <= HOURS_A_YEAR:
        raise InputError(f"has {len(found)} hours", where=str(path), remedy=f"give 1 to {HOURS_A_YEAR} hours")
    return found


def _number(text: str | None, path: Path, line: int, name: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InputError(f"{name} = {text!r}", where=f"{path}:{line}", remedy="give a number of at least 0")
    return value
