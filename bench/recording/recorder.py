"""From a worker's spool to request rows, in a process of its own and behind everybody else: run by `python -m`.

Reads one JSON order a line on standard input ({"spool", "zero_ns"}; {"end": true} when the spool is complete), appends a
JSON line a finished request to the rows file beside the spool while the probe runs, and answers {} or {"failed": why} when
everything has been read.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from tokenhour.bench.recording import raw_files
from tokenhour.bench.recording.frame_log import DATA, DUE, END, RESENT, SENT, TAKEN, Frame, Tail
from tokenhour.bench.recording.response_parser import Parsed, Pieces, parse
from tokenhour.contracts.records.request import Outcome, RequestRow
from tokenhour.machine.processes import die_with_parent

_POLL_S = 0.2
_NICE = 19  # it may fall behind the generator and the engine, which it must not slow down
_DIGITS = 7  # of a second: a tenth of a microsecond


@dataclass(slots=True)
class OpenRequest:
    """A request whose end has not been seen yet; times in seconds on the run's clock."""

    scheduled_s: float
    about: dict[str, Any]
    sent_s: float | None = None
    """The first time."""
    taken_s: float | None = None
    """When opening a connection for it began."""
    note: str = ""
    pieces: Pieces = field(default_factory=list)


@dataclass(slots=True)
class RowBuilder:
    """Makes rows of the frames of one spool; holds the requests that are open."""

    probe: int
    worker: int
    zero_ns: int
    open: dict[int, OpenRequest] = field(default_factory=dict)

    def take(self, frame: Frame) -> RequestRow | None:
        """Note a frame; return the row of the request that it ended."""
        at = (frame.at_ns - self.zero_ns) / 1e9
        if frame.kind == DUE:
            self.open[frame.request] = OpenRequest(at, json.loads(frame.payload))
            return None
        found = self.open.get(frame.request)
        if found is None:
            return None
        if frame.kind == SENT:
            found.sent_s = at if found.sent_s is None else found.sent_s
        elif frame.kind == TAKEN:
            found.taken_s = at if found.sent_s is None else found.taken_s
        elif frame.kind == RESENT:
            found.note = "the server had closed the idle connection: sent again on a new one"
        elif frame.kind == DATA:
            found.pieces.append((at, frame.payload))
        elif frame.kind == END:
            del self.open[frame.request]
            return self.row(found, at, frame.payload.decode())
        return None

    def abandoned(self) -> Iterator[RequestRow]:
        """Make the rows of requests whose worker ended before them."""
        for found in self.open.values():
            last = found.pieces[-1][0] if found.pieces else found.sent_s or found.scheduled_s
            yield self.row(found, last, "cancelled\0the worker ended before the response did")

    def row(self, request: OpenRequest, finished_s: float, reason: str) -> RequestRow:
        """Make the record of a request."""
        about, pieces = request.about, request.pieces
        found = parse(pieces) if pieces or not reason else Parsed()
        if reason and found.outcome != "success":
            kind, _, detail = reason.partition("\0")
            found.outcome, found.detail = cast("Outcome", kind), detail
        sent = request.sent_s
        times = found.token_times
        return RequestRow(
            request_id=about["id"],
            probe=self.probe,
            worker=self.worker,
            scheduled_s=round(request.scheduled_s, _DIGITS),
            sent_s=None if sent is None else round(sent, _DIGITS),
            first_token_s=round(times[0], _DIGITS) if times else None,
            last_token_s=round(times[-1], _DIGITS) if times else None,
            finished_s=round(finished_s, _DIGITS),
            outcome=found.outcome,
            status=found.status,
            detail=found.detail or request.note,
            prompt_tokens_requested=about["prompt"],
            output_tokens_requested=about["output"],
            prompt_tokens=found.prompt_tokens,
            completion_tokens=found.completion_tokens,
            cached_tokens=found.cached_tokens,
            first_chunk_tokens=found.token_counts[0] if times else None,
            chunks=len(times),
            chunk_offsets_s=[round(t - (sent or t), _DIGITS) for t in times],
            chunk_tokens=found.token_counts,
            tokens_spread=found.spread,
            taken_s=None if request.taken_s is None else round(request.taken_s, _DIGITS),
            finish_reason=found.finish_reason,
        )


def line_of(row: RequestRow) -> str:
    """Write a row as a line of JSON."""
    return json.dumps({name: getattr(row, name) for name in RequestRow.__slots__}) + "\n"


def drain(tail: Tail, builder: RowBuilder, sink: TextIO) -> int:
    """Read what the spool holds now; return how many frames that were."""
    count = 0
    for count, frame in enumerate(tail.frames(), 1):  # noqa: B007 (the last number is the count)
        row = builder.take(frame)
        if row is not None:
            sink.write(line_of(row))
    sink.flush()
    return count


def record(spool: Path, rows: Path, zero_ns: int, commands: BinaryIO) -> None:
    """Follow one spool to its end, which the next command says."""
    tail = Tail(spool)
    builder = RowBuilder(*raw_files.probe_and_worker(spool), zero_ns)
    ending = False
    with rows.open("a", encoding="utf-8") as sink:
        while drain(tail, builder, sink) or not ending:
            if not ending and select.select([commands], [], [], _POLL_S)[0]:
                ending = True
                commands.readline()
        sink.writelines(line_of(row) for row in builder.abandoned())
    tail.close()


def main() -> None:
    """Obey orders until standard input closes."""
    parent = os.environ.pop("TOKENHOUR_PARENT_PID", "")
    if parent:
        die_with_parent(int(parent))
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    # Without a buffer: what select() says and what has been read must agree.
    commands: Any = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 (lives with the process)
    while line := commands.readline():
        order = json.loads(line)
        if "spool" not in order:
            continue
        spool = Path(order["spool"])
        rows = raw_files.rows_file(spool.parent, *raw_files.probe_and_worker(spool))
        try:
            record(spool, rows, order["zero_ns"], commands)
            answer = {}
        except OSError as error:
            answer = {"failed": f"{error.strerror}: {rows}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
