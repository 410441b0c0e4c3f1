"""The folder of one run: where its records are, what happened to it, and how a stale record makes room."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.io.atomic_io import disk_errors, make_folder
from tokenhour.contracts.record import Record
from tokenhour.contracts.records.endpoint import Endpoint, Load
from tokenhour.contracts.records.environment import Environment
from tokenhour.contracts.records.probe import Probes
from tokenhour.contracts.records.request import REQUESTS_FILE
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.telemetry import TELEMETRY_FILE
from tokenhour.contracts.standalone.generator_certificate import Certificate
from tokenhour.machine.hardware import capture

EVENTS_FILE = "events.jsonl"
SUPERSEDED = "superseded"
Line = TypeVar("Line")
_MEASURED = (Summary.file_name, Probes.file_name, REQUESTS_FILE, TELEMETRY_FILE, Certificate.file_name)


def now_utc() -> str:
    """Return the wall-clock time as ISO 8601, UTC, whole seconds. For anchors only; durations use time.monotonic."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0).isoformat()


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the run's log."""

    at_utc: str
    stage: str
    state: str
    """`started`, `done`, `reused`, `failed` or `interrupted`."""
    detail: str = ""


def read_lines(file: Path, kind: Callable[..., Line]) -> list[Line]:
    """Return what each JSON line of a log says; a torn last line (a killed process) is left out. Empty without a log."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in file.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError, TypeError):
                found.append(kind(**json.loads(line)))
    return found


@dataclass(frozen=True, slots=True)
class RunDir:
    """results/<run>."""

    path: Path

    @classmethod
    def of(cls, results: Path, experiment: Experiment, scheme: str | None = None) -> RunDir:
        """Return the folder of one scheme's run, or with no scheme the experiment's own (verdict, report)."""
        return cls(results / (experiment.run_name(scheme) if scheme else experiment.name))

    def open(self, experiment: Experiment) -> RunDir:
        """Make the folder and write experiment.json and environment.json, moving older ones aside when they differ."""
        self._begin(experiment, Load, Endpoint)
        return self

    def open_load(self, load: Load) -> None:
        """Make the folder of a measurement of somebody else's server, with load.json and environment.json."""
        self._begin(load, Experiment)

    def _begin(self, asked: Record, *others: type[Record]) -> None:
        """Make the folder; where it was another kind of run's, move what says so aside with all that was measured there."""
        make_folder(self.path)
        if any(kind.exists(self.path) for kind in others):
            self.supersede(*(kind.file_name for kind in others), *_MEASURED)
        standing = self.path / asked.file_name
        if standing.is_file() and standing.read_bytes() != asked.to_json():
            self.supersede(asked.file_name, Environment.file_name)
        if not standing.is_file():
            asked.write(self.path)
        if not Environment.exists(self.path):
            capture(now_utc()).write(self.path)

    def note(self, stage: str, state: str, detail: str = "") -> None:
        """Append an event; one short write, so that concurrent writers do not mix lines."""
        line = json.dumps({"at_utc": now_utc(), "stage": stage, "state": state, "detail": detail}) + "\n"
        make_folder(self.path)
        with disk_errors(self.path):
            handle = os.open(self.path / EVENTS_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(handle, line.encode())
            finally:
                os.close(handle)

    def events(self) -> list[Event]:
        """Return all events in order; a torn last line (a killed process) is left out."""
        return read_lines(self.path / EVENTS_FILE, Event)

    def status(self) -> dict[str, Event]:
        """Return each stage's last event. A stage whose last event is `started` is running or was killed."""
        return {event.stage: event for event in self.events()}

    def supersede(self, *names: str) -> None:
        """Move files aside into superseded/N/ instead of overwriting or deleting them."""
        standing = [self.path / name for name in names if (self.path / name).exists()]
        if not standing:
            return
        shelf = self.path / SUPERSEDED
        number = 1 + max((int(p.name) for p in shelf.glob("[0-9]*")), default=0)
        target = shelf / str(number)
        with disk_errors(shelf):
            target.mkdir(parents=True)
            for file in standing:
                file.rename(target / file.name)
