"""What an idle policy saved and what it cost: derived from the supervisor's idle events, read by the economics.

History
    1  first version
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from tokenhour.contracts.config.operations import IdlePolicy
from tokenhour.contracts.record import Interval, Part, Record

IDLE_EVENTS_FILE = "idle.jsonl"


@dataclass(frozen=True, slots=True)
class IdleEvent:
    """A line of idle.jsonl; times in seconds of the host's monotonic clock."""

    kind: Literal["up", "asleep", "awake", "down"]
    at_s: float
    at_utc: str
    took_s: float = 0.0
    """asleep: from the decision to rest. awake: from the first held request to the open gate."""
    held: int = 0
    """awake: requests that were waiting when the gate opened."""
    released_bytes: int | None = None
    """asleep: memory that other programs could use, where it can be measured."""


class Wake(Part):
    """One wake."""

    at_utc: str
    asleep_s: float
    """How long it had rested."""
    penalty_s: float
    """First held request to the open gate: what that request waited for."""
    held_requests: int


class IdleRecord(Record):
    """The saving and the penalty of an idle policy over the time that it was observed."""

    file_name: ClassVar[str] = "idle.json"
    record: Literal["idle"] = "idle"
    version: Literal[1] = 1
    policy: IdlePolicy
    after_s: float
    accelerators: int
    observed_s: float
    """From the first to the last event."""
    asleep_s: float
    asleep_share: float
    """Of the observed time."""
    released_accelerator_hours: float
    """Asleep time x accelerators. Money is saved only where that time is not paid for (`stop` with an autoscaler), or where
    something else uses the memory (`sleep`)."""
    released_bytes: int | None
    """Smallest amount of memory that a sleep released."""
    gpu_is_free: bool
    """True for `stop`: nothing of the engine stays on the accelerator."""
    wakes: tuple[Wake, ...]
    wake_penalty_s: Interval | None
    """Mean over the wakes, with the 95 % t-interval from two wakes on; None before the first wake."""
    held_requests: int
    """All requests that waited for a wake."""
    inputs: dict[str, str]
    """sha256 of idle.jsonl."""
    created_utc: str
