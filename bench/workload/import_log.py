"""From a log of real requests to a workload file and a traffic profile."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tokenhour.bench.workload.traces import FORMATS, in_milliseconds, number_of, rows, seconds_of
from tokenhour.bench.workload.weekly_profile import HOUR_S, Week, week_of
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.atomic_io import sha256_file, write_text_atomic
from tokenhour.contracts.standalone.traffic_profile import HOURS_PER_WEEK, TokenMeans, TrafficProfile
from tokenhour.contracts.units import HOURS_PER_MONTH

PROMPT = ("prompt_tokens", "input_tokens", "ContextTokens", "Request tokens", "input_length", "n_context_tokens_total")
COMPLETION = (
    "completion_tokens", "output_tokens", "GeneratedTokens", "Response tokens", "output_length", "n_generated_tokens_total",
)  # fmt: skip
CACHED = ("cached_tokens", "input_cached_tokens", "cached_prompt_tokens", "n_cached_context_tokens_total")
TIME = ("timestamp", "timestamp_s", "created", "created_at", "time", "TIMESTAMP", "Timestamp", "start_time")
END = "end_time"
COUNT = ("num_model_requests", "n_requests")
_NOTHING: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0, "num_model_requests": 0}
"""What stands for a bucket in which nobody asked anything: it is time that was observed."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A line of the log: one request, or the sum of several."""

    prompt: float
    completion: float
    cached: float
    requests: float
    at_s: float | None
    """Unix time; of a sum, of its beginning."""
    place: str = ""
    """File and line."""
    is_sum: bool = False
    """It has a count of requests, as the buckets of a usage export have."""
    end_s: float | None = None
    """When a sum ends, where the log says it."""
    milliseconds: bool = False
    """Its time was a number of them."""

    @property
    def empty(self) -> bool:
        """A bucket in which nobody asked anything."""
        return not (self.requests or self.prompt or self.completion)


@dataclass(frozen=True, slots=True)
class Imported:
    """What was made of a log."""

    profile: TrafficProfile
    profile_file: Path
    requests_file: Path | None
    """None for a usage export, which has no single requests."""
    fragment_file: Path | None
    """Instead of it: the mean lengths, as the `workload` of a load file."""
    left_out: int
    """Requests without prompt or without completion tokens: in the profile, not in `requests_file`."""


def convert(log: Path, out: Path, name: str) -> Imported:
    """Read `log`, write requests.csv (or workload.yaml) and traffic.json into `out`.

    Raises InputError naming line, field and value.
    """
    entries = list(_entries(log))
    if not entries:
        raise InputError("has no request", where=str(log), remedy="check the file")
    profile = profile_of(entries, name, {log.name: sha256_file(log)})
    existing = out / TrafficProfile.file_name
    if existing.exists():
        raise InputError("a traffic profile stands here already", where=str(existing), remedy="choose another --out")
    asked = [e for e in entries if not e.empty]
    single = all(e.requests == 1 for e in asked)
    kept = [e for e in entries if e.prompt and e.completion]  # others cannot be asked again
    requests_file = out / "requests.csv" if single and kept else None
    fragment_file = out / "workload.yaml" if requests_file is None else None
    if requests_file is not None:
        write_text_atomic(requests_file, _as_csv(kept))
    if fragment_file is not None:
        write_text_atomic(fragment_file, _fragment(profile))
    profile.write(out)
    return Imported(profile, existing, requests_file, fragment_file, len(asked) - len(kept) if single else 0)


def _entries(log: Path) -> Iterator[LogEntry]:
    buckets = _usage_export(log)
    for place, row in buckets if buckets is not None else ((f"{log}:{n}", row) for n, row in rows(log)):
        yield _entry(row, place)


def _usage_export(log: Path) -> list[tuple[str, Mapping[str, Any]]] | None:
    """Return the results of an OpenAI usage export (GET /v1/organization/usage/completions); None for another file."""
    try:
        found = json.loads(log.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("data"), list):
        return None
    lines: list[tuple[str, Mapping[str, Any]]] = []
    for number, bucket in enumerate(found["data"]):
        if isinstance(bucket, dict):
            when = {name: bucket.get(name) for name in ("start_time", END)}
            lines += [(f"{log}: data[{number}]", {**when, **part}) for part in _parts(bucket)]
    return lines


def _parts(bucket: dict[str, Any]) -> list[dict[str, Any]]:
    found = next((bucket[name] for name in ("results", "result") if name in bucket), None)
    return [_NOTHING] if found == [] else [part for part in found or () if isinstance(part, dict)]


def _entry(row: Mapping[str, Any], place: str) -> LogEntry:
    flat = {**row, **(row["usage"] if isinstance(row.get("usage"), dict) else {})}

    def named(names: tuple[str, ...]) -> str | None:
        return next((name for name in names if flat.get(name) not in (None, "")), None)

    prompt, completion = named(PROMPT), named(COMPLETION)
    if prompt is None or completion is None:
        missing = "prompt" if prompt is None else "completion"
        raise InputError(
            f"no {missing} token count; its fields are {', '.join(sorted(map(str, flat)))}",
            where=place,
            remedy=f"one of {', '.join(PROMPT if prompt is None else COMPLETION)}",
        )
    cached, count, when, end = named(CACHED), named(COUNT), named(TIME), named((END,))
    # Mooncake's published traces, whose columns these are, count milliseconds.
    milliseconds = prompt == FORMATS["mooncake"].prompt
    return LogEntry(
        prompt=number_of(flat, prompt, place),
        completion=number_of(flat, completion, place),
        cached=number_of(flat, cached, place) if cached else 0.0,
        requests=number_of(flat, count, place) if count else 1.0,
        at_s=_time(flat[when], when, place, milliseconds) if when else None,
        place=place,
        is_sum=count is not None,
        end_s=_time(flat[end], end, place, milliseconds) if count and when and end else None,
        milliseconds=when is not None and (milliseconds or in_milliseconds(flat[when])),
    )


def _time(value: Any, field: str, place: str, milliseconds: bool) -> float:
    try:
        return seconds_of(value, milliseconds=milliseconds)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{field} = {value!r} is no time", where=place, remedy="Unix seconds, or a date and time as ISO 8601"
        ) from error


def profile_of(entries: list[LogEntry], name: str, inputs: dict[str, str]) -> TrafficProfile:
    """Derive the traffic profile. Pure. Shares are of tokens, input plus output."""
    requests = sum(e.requests for e in entries)
    tokens = np.asarray([e.prompt + e.completion for e in entries])
    if not requests or not tokens.sum():
        raise InputError("has no tokens", where=name, remedy="check the file")
    for side, total in (("prompt", sum(e.prompt for e in entries)), ("completion", sum(e.completion for e in entries))):
        if not total:
            raise InputError(f"has no {side} tokens in any line", where=name, remedy="check the file")
    means = TokenMeans(
        prompt=sum(e.prompt for e in entries) / requests,
        cached=sum(e.cached for e in entries) / requests,
        completion=sum(e.completion for e in entries) / requests,
    )
    times = [e.at_s for e in entries if e.at_s is not None]
    if 0 < len(times) < len(entries):
        untimed = next(e for e in entries if e.at_s is None)
        raise InputError(
            f"has no time, as {len(times)} of {len(entries)} lines have",
            where=untimed.place,
            remedy=f"add one of {', '.join(TIME)}, or remove the line",
        )
    if times:
        ends, said = _ends(entries)
        week = week_of(np.asarray(times), ends, tokens)
        a_month = requests / week.hours * HOURS_PER_MONTH
        assumed = (*_milliseconds(entries), *said, *week.assumed)
    else:
        week, a_month = Week((1 / HOURS_PER_WEEK,) * HOURS_PER_WEEK, 1), requests
        assumed = ("the log has no timestamps: demand is taken as flat and its requests as those of one month",)
    return TrafficProfile(
        source=name,
        hourly_share=week.shares,
        hours_observed=week.hours,
        requests=round(requests),
        requests_per_month=a_month,
        tokens=means,
        peak_to_mean=max(1.0, max(week.shares) * HOURS_PER_WEEK),
        first_utc=_utc(min(times)) if times else None,
        last_utc=_utc(max(times)) if times else None,
        assumed=assumed,
        inputs=inputs,
    )


def _utc(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).replace(microsecond=0).isoformat()


def _milliseconds(entries: list[LogEntry]) -> tuple[str, ...]:
    count = sum(e.milliseconds for e in entries)
    return (f"the times of {count} of {len(entries)} lines are taken as milliseconds",) if count else ()


def _ends(entries: list[LogEntry]) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    """Return when each entry ends, and what was assumed of it; a request ends where it begins.

    A sum without an end is taken to last as long as the smallest gap between two. Raises InputError where there is none.
    """
    starts = np.unique([e.at_s for e in entries if e.is_sum and e.at_s is not None])
    gap_s = float(np.diff(starts).min()) if len(starts) > 1 else None
    ends = np.asarray([_end(e, gap_s) for e in entries])
    longest = max((end - (e.at_s or 0.0) for e, end in zip(entries, ends, strict=True)), default=0.0)
    said = []
    if any(e.is_sum and e.end_s is None for e in entries) and gap_s is not None:
        said.append(f"buckets without {END} are taken to last {gap_s / HOUR_S:g} h, the smallest gap between two")
    if longest > HOUR_S:
        said.append(
            f"sums of {longest / HOUR_S:g} h are spread evenly over their hours: which of these is busiest is not in the log"
        )
    return ends, tuple(said)


def _end(entry: LogEntry, gap_s: float | None) -> float:
    start = entry.at_s or 0.0
    if not entry.is_sum:
        return start
    if entry.end_s is not None:
        if entry.end_s < start:
            raise InputError(f"{END} is before its start", where=entry.place, remedy="correct or remove the line")
        return entry.end_s
    if gap_s is None and entry.requests != 1:
        raise InputError(
            f"how long these {entry.requests:.0f} requests took is not in the log",
            where=entry.place,
            remedy=f"add {END} to it",
        )
    return start + (gap_s or 0.0)


def _fragment(profile: TrafficProfile) -> str:
    """Write what a load file's `workload` can take from sums: mean lengths, and nothing about how they vary."""
    tokens = profile.tokens
    return (
        f"# Mean lengths of {profile.source}, which has no single requests: every request here is a mean one.\n"
        "# A load file wants an objective beside it (slo), see docs/load.md.\n"
        "workload:\n"
        f"  prompt: {{mean_tokens: {max(1, round(tokens.prompt))}}}\n"
        f"  output: {{mean_tokens: {max(1, round(tokens.completion))}}}\n"
    )


def _as_csv(entries: list[LogEntry]) -> str:
    """Write single requests in the order of their times."""
    kept = sorted(entries, key=lambda e: e.at_s or 0.0)
    timed = all(e.at_s is not None for e in kept)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["prompt_tokens", "completion_tokens", *(["timestamp_s"] if timed else [])])
    start = kept[0].at_s or 0.0
    for e in kept:
        writer.writerow([round(e.prompt), round(e.completion), *([f"{(e.at_s or 0.0) - start:.3f}"] if timed else [])])
    return out.getvalue()
