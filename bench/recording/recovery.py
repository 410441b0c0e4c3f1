"""What a run that broke off had received and nobody had recorded yet: read from the spools and files that it left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenhour.bench.recording.frame_log import Tail
from tokenhour.bench.recording.recorder import Book
from tokenhour.bench.recording.tables import read_lines, request_rows
from tokenhour.contracts.records.request import RequestRow


def leftovers(raw: Path, zero_ns: int) -> Iterator[RequestRow]:
    """Yield the requests below `raw` that are in none of its own row files; `zero_ns` is the zero of the run's clock.

    A spool stands where a generator, a worker or its recorder was killed. A worker's own rows are more than the merged ones
    where it, or the master, ended before all had travelled.
    """
    for name in sorted({_name_of(file) for file in (*raw.rglob("spool-*.bin"), *raw.glob("worker-*/requests-*.jsonl"))}):
        merged = raw / f"requests-{name}.jsonl"
        own = [file for file in sorted(raw.glob(f"worker-*/requests-{name}.jsonl")) if _bytes(file) != _bytes(merged)]
        spools = sorted(raw.rglob(f"spool-{name}.bin"))
        if not own and not spools:
            continue
        known = {row["request_id"] for row in read_lines(merged) if isinstance(row, dict)}
        probe, worker = (int(part) for part in name.split("-"))
        sources = [*map(request_rows, own), *(_replay(spool, Book(probe, worker, zero_ns)) for spool in spools)]
        for row in (row for source in sources for row in source):
            if row.request_id not in known:
                known.add(row.request_id)
                yield row


def _name_of(file: Path) -> str:
    """Return PROBE-WORKER of `spool-PROBE-WORKER.bin` or `requests-PROBE-WORKER.jsonl`."""
    return file.stem.split("-", 1)[1]


def _bytes(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _replay(spool: Path, book: Book) -> Iterator[RequestRow]:
    """Yield the requests of a spool that nobody writes any more, those that had not ended last."""
    tail = Tail(spool)
    some = True
    while some:
        some = False
        for frame in tail.frames():
            some = True
            if (row := book.take(frame)) is not None:
                yield row
    tail.close()
    yield from book.abandoned()
