"""Rows on disk: the tail of a file that is being written gives each whole row once, with its chunks or without."""

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench.rows import row
from tokenhour.bench.recording import tables
from tokenhour.bench.recording.tables import LineTail, read_table, write_table
from tokenhour.bench.statistics import metrics
from tokenhour.bench.statistics.slo import misses
from tokenhour.contracts.config.bench import SloSpec
from tokenhour.contracts.records.request import RequestRow

ROWS = [row(float(k), tokens=3 + k) for k in range(40)]


def lines(rows: Iterable[RequestRow]) -> str:
    """Return rows as the recorder's JSON lines."""
    return "".join(json.dumps(asdict(r)) + "\n" for r in rows)


def same(found: Sequence[Any], wanted: Sequence[RequestRow]) -> None:
    """Compare rows with their chunks and the types of these."""
    assert [r.request_id for r in found] == [r.request_id for r in wanted]
    assert [list(r.chunk_offsets_s) for r in found] == [list(r.chunk_offsets_s) for r in wanted]
    assert all(r.chunk_offsets_s.dtype == np.float64 and r.chunk_tokens.dtype == np.int32 for r in found)


@pytest.mark.parametrize(("rows", "chunks", "groups"), [(2000, 100_000, 1), (7, 100_000, 6), (2000, 100, 8)])
def test_a_table_is_written_in_groups_of_so_many_rows_or_chunks_and_reads_back_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, chunks: int, groups: int
) -> None:
    """Row groups bound the memory of a long run; nothing is lost between them."""
    import pyarrow.parquet as pq

    monkeypatch.setattr(tables, "_BATCH_ROWS", rows)
    monkeypatch.setattr(tables, "_BATCH_CHUNKS", chunks)
    file = tmp_path / "rows.parquet"
    write_table(file, iter(ROWS), RequestRow)
    with pq.ParquetFile(file) as table:
        assert table.num_row_groups == groups
    same(read_table(file, RequestRow), ROWS)


def test_an_empty_table_reads_back_empty(tmp_path: Path) -> None:
    """A run without a request has a readable table."""
    write_table(tmp_path / "rows.parquet", (), RequestRow)
    assert read_table(tmp_path / "rows.parquet", RequestRow) == []


@pytest.mark.parametrize("piece", [1, 1000, 1 << 20])
def test_the_tail_gives_each_whole_row_once_whatever_is_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """Following a growing file yields every row exactly once, also from long lines."""
    monkeypatch.setattr(tables, "_PIECE_BYTES", piece)
    text, file = lines(ROWS), tmp_path / "rows.jsonl"
    tail, found = LineTail(file), []
    assert tail.rows() == []
    for cut in (100, 101, len(text) // 2, len(text) - 1, len(text), len(text)):
        file.write_text(text[:cut])
        found += tail.rows()
    same(found, ROWS)


class Growing(io.RawIOBase):
    """A file that has grown by the next piece whenever its end has been met."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces, self.data, self.at = list(pieces), b"", 0

    def readable(self) -> bool:
        """Answer that it can be read."""
        return True

    def seekable(self) -> bool:
        """Answer that it can be sought in."""
        return True

    def seek(self, offset: int, _whence: int = 0) -> int:
        """Move to an offset from the beginning."""
        self.at = offset
        return offset

    def readinto(self, buffer: Any) -> int:
        """Read what is there, and grow once its end was seen."""
        found = self.data[self.at : self.at + len(buffer)]
        buffer[: len(found)] = found
        self.at += len(found)
        if not found and self.pieces:
            self.data += self.pieces.pop(0)
        return len(found)


def test_a_file_that_grows_while_it_is_read_is_never_read_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is completed between two reads of one look is given whole."""
    file = tmp_path / "rows.jsonl"
    file.touch()
    text = lines(ROWS).encode()
    raw = Growing([text[:150], text[150:1000], text[1000:]])
    monkeypatch.setattr(raw, "close", lambda: None)
    monkeypatch.setattr(Path, "open", lambda *_: io.BufferedReader(raw))
    tail, found = LineTail(file), []
    for _ in range(6):
        found += tail.rows()
    same(found, ROWS)


def test_the_tail_without_chunks_keeps_all_that_the_verdict_of_a_probe_uses(tmp_path: Path) -> None:
    """The light tail saves memory and still judges the SLO exactly as whole rows do."""
    file = tmp_path / "rows.jsonl"
    rows = [*ROWS, row(50.0, outcome="timeout"), row(51.0, tokens=1)]
    file.write_text(lines(rows))
    light = LineTail(file, chunks=False).rows()
    assert sum(len(r.chunk_offsets_s) + len(r.chunk_tokens) for r in light) == 0
    bare = {"chunk_offsets_s": (), "chunk_tokens": ()}
    assert [replace(r, **bare) for r in light] == [replace(r, **bare) for r in rows]
    slo = SloSpec(percentile=90, ttft_s=0.1, tpot_s=0.01, e2e_s=0.2)
    assert [misses(r, slo) for r in light] == [misses(r, slo) for r in rows]
    whole, bare_found = metrics.latencies(rows), metrics.latencies(light)
    assert np.array_equal(whole.ttft, bare_found.ttft)
    assert np.array_equal(whole.tpot, bare_found.tpot)
