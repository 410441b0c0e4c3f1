"""The idle policy: put the engine to rest when nobody asks, wake it for the next request, keep what both cost.

Raw events go to idle.jsonl as they happen; idle.json is derived from them, and can be derived again.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.config.operations import IdleSpec
from tokenhour.contracts.errors import TokenhourError
from tokenhour.contracts.io.atomic_io import sha256_file
from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.standalone.idle import IDLE_EVENTS_FILE, IdleEvent, IdleRecord, Wake
from tokenhour.contracts.units import SECONDS_PER_HOUR
from tokenhour.machine.http import NO_ANSWER, post_json
from tokenhour.machine.run_folder import RunDir, now_utc, read_lines
from tokenhour.serving.proxy.server import Front
from tokenhour.serving.state import ORDER_FILE

_LOOK_S = 0.25
_SLEEP_TIMEOUT_S = 120.0
_RETRY_S = 1.0
# After which level what is asked; after 2 the weights are read again before the KV cache is made.
_WAKE_UP: dict[int, tuple[tuple[str, dict[str, str]], ...]] = {
    1: (("wake_up", {}),),
    2: (("wake_up?tags=weights", {}), ("collective_rpc", {"method": "reload_weights"}), ("wake_up?tags=kv_cache", {})),
}
_CLOSE_S = 15.0


class Rest(Protocol):
    """How an engine is put to rest and brought back; `wake` returns when it answers again, False when it does not."""

    def rest(self) -> None:
        """Put it to rest."""

    def wake(self) -> bool:
        """Bring it back."""

    def used_bytes(self) -> int | None:
        """Memory that it holds now; None where that cannot be measured."""


class SleepMode:
    """vLLM's sleep mode: level 1 keeps the weights in host memory, level 2 drops them and reads them again.

    `urls` tells which engines are there at the time: one that crashed is not asked, and holds up none of the others.
    """

    def __init__(self, urls: Callable[[], Sequence[str]], level: int, used: Callable[[], int | None]) -> None:
        self._urls, self._level, self.used_bytes = urls, level, used

    def rest(self) -> None:
        """Put every engine to sleep; the gate is closed, so there is nothing to abort."""
        for url in self._urls():
            post_json(f"{url}/sleep?level={self._level}", {}, _SLEEP_TIMEOUT_S)

    def wake(self) -> bool:
        """Wake every engine that is there."""
        urls = self._urls()
        try:
            for url in urls:
                for path, body in _WAKE_UP[self._level]:
                    post_json(f"{url}/{path}", body, _SLEEP_TIMEOUT_S)
        except NO_ANSWER:
            return False
        return bool(urls)


class IdlePolicy(threading.Thread):
    """Watches the front and puts the engine to rest and back.

    Whatever goes wrong is said and tried again: without this thread a closed gate would stay closed.
    """

    def __init__(self, front: Front, how: Rest, spec: IdleSpec, folder: Path) -> None:
        super().__init__(name="idle policy", daemon=True)
        self._front, self._how, self._spec, self._folder = front, how, spec, folder
        self._over = threading.Event()
        self.closed = False
        """The gate is: the engine rests, or is on its way there or back."""
        self.resting = False
        """It rests: what it can release is released."""
        self.wakes = 0
        self.asleep_s = 0.0
        self._rested_at = 0.0

    def run(self) -> None:
        """Alternate between being there and resting until closed."""
        self._note(IdleEvent("up", time.monotonic(), now_utc()))
        while not self._over.is_set():
            try:
                self._step()
            except Exception as error:  # noqa: BLE001 (see above)
                if not self._over.is_set():
                    _say("the idle policy was disturbed", error)
                self._over.wait(_RETRY_S)

    def _step(self) -> None:
        if self.closed:
            if self._front.wanted.wait(_LOOK_S):
                self._wake()
        elif self._front.close_when_idle(self._spec.after_s):
            self._rest()
        else:
            self._over.wait(_LOOK_S)

    def end(self) -> None:
        """Begin no other rest or wake; returns at once."""
        self._over.set()

    def close(self) -> None:
        """End the policy as it stands, and note when. A rest or wake under way ends with the engines: stop those first."""
        self.end()
        self.join(_CLOSE_S)
        self._note(IdleEvent("down", time.monotonic(), now_utc()))

    def _rest(self) -> None:
        self.closed, self._rested_at = True, time.monotonic()
        try:
            before = self._how.used_bytes()
            self._how.rest()
            after = self._how.used_bytes()
        except Exception as error:  # noqa: BLE001 (a gate that was closed must open again)
            # One did not go to sleep, others may have: all must be there before the gate opens. Next quiet time, next try.
            _say("the engine was not put to rest", error)
            self._wake_all()
            self._open()
            return
        released = max(0, before - after) if before is not None and after is not None else None
        began, self._rested_at = self._rested_at, time.monotonic()
        self.resting = True
        self._note(IdleEvent("asleep", self._rested_at, now_utc(), took_s=self._rested_at - began, released_bytes=released))

    def _wake_all(self) -> None:
        # Those who came meanwhile wait, and are told at their own time limit.
        while not self._how.wake() and not self._over.wait(_RETRY_S):
            pass

    def _open(self) -> tuple[int, float]:
        found = self._front.open()
        self.closed = self.resting = False
        return found

    def _wake(self) -> None:
        if not self._how.wake():
            # Those who wait are told at their own time limit; meanwhile, as long as somebody waits, it is tried again.
            self._over.wait(_RETRY_S)
            return
        held, waited_s = self._open()
        now = time.monotonic()
        self.asleep_s += now - self._rested_at
        self.wakes += 1
        self._note(IdleEvent("awake", now, now_utc(), took_s=waited_s, held=held))

    def _note(self, event: IdleEvent) -> None:
        # A full disk costs a line of the record, never the server.
        with contextlib.suppress(OSError), (self._folder / IDLE_EVENTS_FILE).open("a") as stream:
            stream.write(json.dumps(asdict(event)) + "\n")


def _say(what: str, error: Exception) -> None:
    with contextlib.suppress(OSError):
        print(f"{now_utc()} {what}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


def read_events(folder: Path) -> list[IdleEvent]:
    """Return the events of the last session in `folder`; a torn last line (a killed process) is left out."""
    return read_lines(folder / IDLE_EVENTS_FILE, IdleEvent)


def derive(
    events: Sequence[IdleEvent], spec: IdleSpec, accelerators: int, inputs: dict[str, str], created_utc: str
) -> IdleRecord:
    """Derive the saving and the penalty: pure. `events` are of one session and not empty."""
    wakes, asleep_s, rested = [], 0.0, None
    for event in events:
        if event.kind == "asleep":
            rested = event.at_s
        elif rested is not None and event.kind in {"awake", "down"}:
            asleep_s += event.at_s - rested
            if event.kind == "awake":
                wakes.append(
                    Wake(
                        at_utc=event.at_utc,
                        asleep_s=event.at_s - rested,
                        penalty_s=event.took_s,
                        held_requests=event.held,
                    )
                )
            rested = None
    observed_s = events[-1].at_s - events[0].at_s
    released = [event.released_bytes for event in events if event.released_bytes is not None]
    return IdleRecord(
        policy=spec.policy,
        after_s=spec.after_s,
        accelerators=accelerators,
        observed_s=observed_s,
        asleep_s=asleep_s,
        asleep_share=asleep_s / observed_s if observed_s else 0.0,
        released_accelerator_hours=asleep_s * accelerators / SECONDS_PER_HOUR,
        released_bytes=min(released, default=None),
        gpu_is_free=spec.policy == "stop",
        wakes=tuple(wakes),
        wake_penalty_s=mean_interval([wake.penalty_s for wake in wakes]),
        held_requests=sum(wake.held_requests for wake in wakes),
        inputs=inputs,
        created_utc=created_utc,
    )


def mean_interval(values: Iterable[float]) -> Interval | None:
    """Return the mean with its 95 % t-interval (open with one value); None without any."""
    found = list(values)
    if not found:
        return None
    mean, count = sum(found) / len(found), len(found)
    if count < 2:
        return Interval(value=mean)
    from scipy import stats

    half = float(stats.t.ppf(0.975, count - 1) * stats.sem(found))
    return Interval(value=mean, low=max(0.0, mean - half), high=mean + half)


def write_record(run: RunDir, spec: IdleSpec, accelerators: int) -> IdleRecord | None:
    """Derive idle.json from the events in the run folder, moving an older one aside; None without events."""
    events = read_events(run.path)
    if len(events) < 2:
        return None
    inputs = {IDLE_EVENTS_FILE: sha256_file(run.path / IDLE_EVENTS_FILE)}
    found = derive(events, spec, accelerators, inputs, now_utc())
    if IdleRecord.exists(run.path):
        if IdleRecord.read(run.path).inputs == inputs:
            return found
        run.supersede(IdleRecord.file_name)
    found.write(run.path)
    return found


def settle(run: RunDir) -> None:
    """Derive what a killed supervisor could not: by the experiment that it followed and what its server.json counts.

    Nothing happens where that was done already, or where there is nothing to derive it from.
    """
    order = run.path / ORDER_FILE
    if not ((run.path / IDLE_EVENTS_FILE).is_file() and order.is_file() and Server.exists(run.path)):
        return
    with contextlib.suppress(TokenhourError):  # records of another version: nothing that the next start depends on
        spec = Experiment.read(order).operations.idle
        if spec.policy != "none":
            write_record(run, spec, Server.read(run.path).accelerators)
