"""`bench telemetry`: the readings alone, shown live or recorded as a table."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.gpus import gpu_reader
from bench.tables import write_table
from bench.telemetry import Reader, engine_reader, host_reader, tree_reader
from contracts.environment import accelerator
from contracts.errors import InputError
from contracts.telemetry import TELEMETRY_FILE, TelemetryRow
from contracts.units import human_bytes

_SHOWN_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read and where to."""

    watch: bool
    out: Path | None
    seconds: float | None
    hz: float
    url: str | None
    pid: int | None


def watch_telemetry(wanted: Wanted) -> None:
    """Read until the time is over or Ctrl-C. Raises InputError when nothing was asked for."""
    if not wanted.watch and wanted.out is None:
        raise InputError("nothing to do", where="bench telemetry", remedy="give --watch, --out DIR, or both")
    readers = _readers(wanted)
    rows: list[TelemetryRow] = []
    began = shown = time.monotonic()
    try:
        while wanted.seconds is None or time.monotonic() - began < wanted.seconds:
            now = time.monotonic() - began
            latest = [TelemetryRow(round(now, 6), *sample) for read in readers for sample in read()]
            if wanted.out is not None:
                rows += latest
            if wanted.watch and time.monotonic() - shown >= _SHOWN_EVERY_S:
                shown = time.monotonic()
                _show(latest)
            time.sleep(max(0.0, 1 / wanted.hz - (time.monotonic() - began - now)))
    except KeyboardInterrupt:
        pass
    if wanted.watch:
        print()
    if wanted.out is not None:
        wanted.out.mkdir(parents=True, exist_ok=True)
        write_table(wanted.out / TELEMETRY_FILE, rows, TelemetryRow)
        print(f"{len(rows)} readings in {wanted.out / TELEMETRY_FILE}")


def _readers(wanted: Wanted) -> list[Reader]:
    found = [host_reader()]
    if accelerator().kind == "cuda":
        found.append(gpu_reader())
    if wanted.url:
        found.append(engine_reader([wanted.url.rstrip("/")]))
    if wanted.pid:
        found.append(tree_reader("process", wanted.pid))
    return found


def _show(rows: list[TelemetryRow]) -> None:
    said = [f"{row.source}{row.index} {row.metric} {_value(row)}" for row in rows]
    line = "  ".join(said)
    sys.stdout.write(f"\r\033[K{line}" if sys.stdout.isatty() else f"{line}\n")
    sys.stdout.flush()


def _value(row: TelemetryRow) -> str:
    if row.metric.endswith("_bytes"):
        return human_bytes(row.value)
    return f"{row.value:.0%}" if row.metric.endswith("_share") else f"{row.value:.6g}"
