"""`bench telemetry`: the readings alone, shown live or recorded as a table."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from tokenhour.bench.recording import raw_files
from tokenhour.bench.recording.tables import telemetry_rows, write_table
from tokenhour.bench.target.discovery import KEY_ENV
from tokenhour.bench.telemetry.gpu_reader import gpu_reader
from tokenhour.bench.telemetry.sampler import SLOW_S, Reader, Sampler, Stamped, engine_reader, host_reader, tree_reader
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.atomic_io import disk_errors
from tokenhour.contracts.records.telemetry import TELEMETRY_FILE, TelemetryRow
from tokenhour.contracts.units import human_bytes
from tokenhour.machine.hardware import accelerator

_SHOWN_EVERY_S = 0.5
_OLD_S = 15.0  # what has not been read for so long is not shown any more; the slowest readings come every 10 s


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What to read and where to."""

    watch: bool
    out: Path | None
    seconds: float | None
    hz: float
    url: str | None
    pid: int | None


@dataclass(slots=True)
class _View:
    """Shows the latest readings and streams all of them to a file, and tells when the time is over."""

    wanted: WatchOptions
    sink: TextIO | None
    began_s: float
    latest: dict[tuple[str, str, str], tuple[float, float]] = field(default_factory=dict)
    shown_s: float = 0.0

    def take(self, samples: list[Stamped]) -> None:
        self.latest |= {(source, index, metric): (at, value) for at, (source, index, metric, value) in samples}
        if self.sink is not None:
            self.sink.writelines(json.dumps([round(at - self.began_s, 6), *sample]) + "\n" for at, sample in samples)

    def wait(self, pause_s: float) -> bool:
        now = time.monotonic()
        if self.wanted.watch and now - self.shown_s >= _SHOWN_EVERY_S:
            self.shown_s = now
            _show([TelemetryRow(at, *key, value) for key, (at, value) in self.latest.copy().items() if at > now - _OLD_S])
        left = float("inf") if self.wanted.seconds is None else self.began_s + self.wanted.seconds - time.monotonic()
        time.sleep(max(0.0, min(pause_s, left)))
        return left <= pause_s


def watch_telemetry(wanted: WatchOptions) -> None:
    """Read until the time is over or Ctrl-C.

    Raises InputError when nothing was asked for, and where a recording stands already.
    """
    if not wanted.watch and wanted.out is None:
        raise InputError("nothing to do", where="bench telemetry", remedy="give --watch, --out DIR, or both")
    with _lines(wanted.out) as sink:
        view = _View(wanted, sink, time.monotonic())
        with contextlib.suppress(KeyboardInterrupt):
            Sampler(_groups(wanted), view.take).run(view.wait)
    if wanted.watch:
        print()
    if wanted.out is not None:
        _convert(wanted.out)


@contextlib.contextmanager
def _lines(out: Path | None) -> Iterator[TextIO | None]:
    """Open the file that is recorded into, where one is wanted."""
    if out is None:
        yield None
        return
    for name in (TELEMETRY_FILE, raw_files.TELEMETRY):
        if (out / name).exists():
            raise InputError("a recording stands here already", where=str(out / name), remedy="choose another --out")
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        with (out / raw_files.TELEMETRY).open("x", encoding="utf-8", buffering=1) as sink:
            yield sink


def _convert(out: Path) -> None:
    """Turn the lines into a table; they go only when it stands."""
    lines, table = out / raw_files.TELEMETRY, out / TELEMETRY_FILE
    write_table(table, telemetry_rows(lines), TelemetryRow)
    count = sum(1 for _ in telemetry_rows(lines))
    lines.unlink()
    print(f"{count} readings in {table}")


def _groups(wanted: WatchOptions) -> list[tuple[float, list[Reader]]]:
    fast = [host_reader()]
    if accelerator().kind == "cuda":
        fast.append(gpu_reader())
    return [
        (1 / wanted.hz, fast),
        (max(SLOW_S, 1 / wanted.hz), [tree_reader("process", wanted.pid)] if wanted.pid else []),
        (max(SLOW_S, 1 / wanted.hz), [engine_reader([wanted.url.rstrip("/")], key_env=KEY_ENV)] if wanted.url else []),
    ]


def _show(rows: list[TelemetryRow]) -> None:
    said = [f"{row.source}{row.index} {row.metric} {_value(row)}" for row in rows]
    line = "  ".join(said)
    sys.stdout.write(f"\r\033[K{line}" if sys.stdout.isatty() else f"{line}\n")
    sys.stdout.flush()


def _value(row: TelemetryRow) -> str:
    if row.metric.endswith("_bytes"):
        return human_bytes(row.value)
    return f"{row.value:.0%}" if row.metric.endswith("_share") else f"{row.value:.6g}"
