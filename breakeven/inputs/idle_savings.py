"""What resting saved and what a wake cost, from the record of serving's idle front. Pure.

Over the observed time a server was asleep for A seconds; each of its n wakes kept a request waiting for w seconds, in which
the machine works and is paid. So (A - n w) / observed of the machine's cost is what resting can save: all of it under
`stop` when the machine is given back meanwhile, nothing for certain under a sleep level, where the machine stays paid
and only its memory is free for something else.
"""

from __future__ import annotations

from tokenhour.contracts.config.bench import SloSpec
from tokenhour.contracts.records.verdict import IdleMeasured
from tokenhour.contracts.standalone.idle import IdleRecord
from tokenhour.contracts.units import SECONDS_PER_HOUR, human_seconds


def measured(record: IdleRecord, source: str) -> IdleMeasured:
    """Take a record's figures; the ends of the saving are those of the wake penalty's interval."""
    penalty = record.wake_penalty_s
    longest = (penalty.high if penalty.high is not None else penalty.value) if penalty else 0.0
    shortest = (penalty.low if penalty.low is not None else penalty.value) if penalty else 0.0
    return IdleMeasured(
        source=source,
        policy=record.policy,
        after_s=record.after_s,
        observed_h=record.observed_s / SECONDS_PER_HOUR,
        asleep_share=record.asleep_share,
        wakes=len(record.wakes),
        wake_penalty_s=penalty,
        released_bytes=record.released_bytes,
        gpu_is_free=record.gpu_is_free,
        saved_low=_saved(record, longest) if record.gpu_is_free else 0.0,
        saved_high=_saved(record, shortest),
    )


def _saved(record: IdleRecord, penalty_s: float) -> float:
    """Return the share of the observed time that was asleep, without what the wakes took of it."""
    if not record.observed_s:
        return 0.0
    return max(0.0, record.asleep_share - len(record.wakes) * penalty_s / record.observed_s)


def told(found: IdleMeasured) -> str:
    """Say in a line what was measured."""
    kept = f"asleep {found.asleep_share:.1%} of {found.observed_h:.3g} h observed ({found.policy} after {found.after_s:g} s)"
    return f"{kept}; {waits(found)}"


def waits(found: IdleMeasured) -> str:
    """Say how long a wake makes a request wait."""
    penalty = found.wake_penalty_s
    if penalty is None:
        return "no wake yet"
    low, high = penalty.low, penalty.high
    spread = f", {human_seconds(low)} to {human_seconds(high)}" if low is not None and high is not None else ""
    times = "once" if found.wakes == 1 else f"{found.wakes} times"
    return f"a request that wakes it waits {human_seconds(penalty.value)} ({times}{spread})"


def too_slow(found: IdleMeasured, slo: SloSpec | None) -> bool:
    """Tell whether a wake alone is longer than the objective allows to the first token."""
    if found.wake_penalty_s is None or slo is None or slo.ttft_s is None:
        return False
    return found.wake_penalty_s.value > slo.ttft_s
