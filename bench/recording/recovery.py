"""What a run that broke off had received and nobody had recorded yet: read from the spools that it left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenhour.bench.recording import raw_files
from tokenhour.bench.recording.frame_log import Tail
from tokenhour.bench.recording.recorder import RowBuilder
from tokenhour.bench.recording.tables import read_lines
from tokenhour.contracts.records.request import RequestRow


def leftovers(raw: Path, zero_ns: int) -> Iterator[RequestRow]:
    """Yield the requests of the spools below `raw` that are in no file of rows; `zero_ns` is the zero of the run's clock.

    A spool stands where a generator, a worker or its recorder was killed.
    """
    for spool in raw_files.all_spools(raw):
        probe, worker = raw_files.probe_and_worker(spool)
        recorded = read_lines(raw_files.rows_file(raw, probe, worker))
        known = {row["request_id"] for row in recorded if isinstance(row, dict)}
        yield from (row for row in _replay(spool, RowBuilder(probe, worker, zero_ns)) if row.request_id not in known)


def _replay(spool: Path, builder: RowBuilder) -> Iterator[RequestRow]:
    """Yield the requests of a spool that nobody writes any more, those that had not ended last."""
    tail = Tail(spool)
    while frames := list(tail.frames()):
        yield from (row for frame in frames if (row := builder.take(frame)) is not None)
    tail.close()
    yield from builder.abandoned()
