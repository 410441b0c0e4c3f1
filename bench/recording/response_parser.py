"""From the bytes of one HTTP response to what happened: strict success, token times. Pure; the clock was read before.

A response arrives as (time, bytes) pieces. An event counts at the time of the piece that completed it.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from pydantic_core import from_json

from tokenhour.contracts.records.request import Outcome

Pieces = list[tuple[float, bytes]]
_BAD = object()
_MOST_TOKENS = 1 << 31  # of a response: counts are 32 bits wide in the records


@dataclass(slots=True)
class Parsed:
    """One response. Times on the clock of the pieces."""

    outcome: Outcome = "truncated"
    status: int | None = None
    detail: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: str | None = None
    token_times: list[float] = field(default_factory=list)
    token_counts: list[int] = field(default_factory=list)
    done: bool = False
    spread: bool = False
    """Tokens were told only at the end and are shared evenly among the chunks."""


def parse(pieces: Pieces) -> Parsed:
    """Read a whole response. `success` needs status 200, a finish reason, a usage record and [DONE]."""
    raw = b"".join(data for _, data in pieces)
    head, _, body = raw.partition(b"\r\n\r\n")
    found = Parsed()
    if not raw:
        found.outcome, found.detail = "connection", "the server closed the connection without an answer"
        return found
    try:
        found.status = int(head.split(b" ", 2)[1])
    except (IndexError, ValueError):
        found.status = None
    if found.status is None or not 100 <= found.status <= 999:
        found.status = None
        found.outcome, found.detail = "malformed", f"no HTTP status line: {head[:60]!r}"
        return found
    chunked = b"transfer-encoding: chunked" in head.lower()
    text, offsets = _dechunk(body, len(head) + 4) if chunked else (body, [(0, len(head) + 4)])
    if found.status != 200:
        found.outcome, found.detail = "http_error", f"HTTP {found.status}: {text[:200].decode(errors='replace')}"
        return found
    ends = list(accumulate(len(data) for _, data in pieces))
    try:
        _events(text, offsets, ends, [t for t, _ in pieces], found)
    except (AttributeError, TypeError) as error:  # JSON, but a text, number or list where something else belongs
        found.outcome, found.detail = "malformed", f"not what the API sends: {error}"[:200]
    return found


def _dechunk(body: bytes, base: int) -> tuple[bytes, list[tuple[int, int]]]:
    """Undo chunked transfer coding; return the text and a map (offset in text, offset in the raw response)."""
    out, offsets, at, size_so_far = [], [], 0, 0
    while (line_end := body.find(b"\r\n", at)) >= 0:
        try:
            size = int(body[at:line_end].split(b";")[0], 16)
        except ValueError:
            break
        start = line_end + 2
        if size == 0:
            break
        data = body[start : start + size]
        offsets.append((size_so_far, base + start))
        out.append(data)
        size_so_far += len(data)
        at = start + size + 2
    return b"".join(out), offsets or [(0, base)]


def _events(text: bytes, offsets: list[tuple[int, int]], ends: list[int], times: list[float], found: Parsed) -> None:
    starts = [offset for offset, _ in offsets]
    events = _split(text)
    messages = _load(events)
    seen, spoken = 0, []
    for (complete_at, payload), message in zip(events, messages, strict=True):
        if payload == b"[DONE]":
            found.done = complete_at <= len(text)
            break
        if message is _BAD:
            if complete_at <= len(text):
                found.outcome, found.detail = "malformed", f"not JSON: {payload[:80]!r}"
                return
            break
        if not isinstance(message, dict) or "error" in message:
            found.outcome, found.detail = "in_band_error", str(message)[:200]
            return
        tokens = _usage(message, found)
        raises = tokens > seen and message.get("choices")
        if not raises and not (tokens == 0 and _speaks(message)):
            continue
        k = bisect_left(starts, complete_at) - 1
        at = times[min(bisect_left(ends, offsets[k][1] + complete_at - starts[k]), len(times) - 1)]
        if raises:
            found.token_times.append(at)
            found.token_counts.append(tokens - seen)
            seen = tokens
        else:
            spoken.append(at)
    if len(found.token_times) <= 1 and spoken and found.completion_tokens:
        _spread(spoken, found.completion_tokens, found)
    _judge(found)


def _split(text: bytes) -> list[tuple[int, bytes]]:
    """Return (offset at which the event was complete, its payload) of each `data:` event."""
    gap = b"\r\n\r\n" if b"\r\n\r\n" in text else b"\n\n"
    found, at = [], 0
    for event in text.split(gap):
        at += len(event) + len(gap)
        line = event.strip()
        if line.startswith(b"data:"):
            found.append((at, line[5:].strip()))
    return found


def _load(events: list[tuple[int, bytes]]) -> list[Any]:
    """Parse all payloads; `_BAD` stands for one that is not JSON. One call for all, as long as all are right."""
    payloads = [payload for _, payload in events]
    done = payloads[-1:] == [b"[DONE]"]
    try:
        whole = from_json(b"[" + b",".join(payloads[:-1] if done else payloads) + b"]")
    except ValueError:
        return [_load_one(payload) for payload in payloads]
    if len(whole) + done != len(payloads):  # such as "1,2" in one payload
        return [_load_one(payload) for payload in payloads]
    return [*whole, None] if done else list(whole)


def _load_one(payload: bytes) -> Any:
    try:
        return from_json(payload)
    except ValueError:
        return _BAD


def _speaks(message: dict[str, Any]) -> bool:
    """Tell whether an event without usage brings output on any channel: text, content, reasoning or a tool call."""
    for choice in message.get("choices") or ():
        said = choice.get("delta") or choice
        if any(said.get(name) for name in ("text", "content", "reasoning_content", "reasoning", "tool_calls")):
            return True
    return False


def _spread(times: list[float], tokens: int, found: Parsed) -> None:
    """Share the tokens of a response evenly among its chunks, where the server told only their sum."""
    found.spread = tokens != len(times)
    edges = [round(k * tokens / len(times)) for k in range(len(times) + 1)]
    pairs = [(t, b - a) for t, a, b in zip(times, edges, edges[1:], strict=False) if b > a]
    found.token_times, found.token_counts = [t for t, _ in pairs], [n for _, n in pairs]


def _usage(message: dict[str, Any], found: Parsed) -> int:
    """Note the usage and the finish reason of an event; return the completion tokens so far."""
    for choice in message.get("choices") or ():
        if reason := choice.get("finish_reason"):
            found.finish_reason = _text(reason)
    usage = message.get("usage")
    if usage:
        found.prompt_tokens = _count(usage.get("prompt_tokens"))
        found.completion_tokens = _count(usage.get("completion_tokens"))
        found.cached_tokens = _count((usage.get("prompt_tokens_details") or {}).get("cached_tokens"))
    return found.completion_tokens or 0


def _count(value: Any) -> int | None:
    """Return a number of tokens as it is. Raises TypeError for what is none."""
    if value is None or (type(value) is int and 0 <= value < _MOST_TOKENS):
        return value
    raise TypeError(f"{value!r:.60} is no number of tokens")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise TypeError(f"{value!r:.60} is no finish reason")


def _judge(found: Parsed) -> None:
    told = found.completion_tokens is not None
    wanted = {"a finish reason": found.finish_reason, "a usage record": told, "[DONE]": found.done}
    missing = [name for name, there in wanted.items() if not there]
    if missing:
        found.outcome, found.detail = "truncated", f"the stream ended without {', '.join(missing)}"
    else:
        found.outcome = "success"
