"""Raw records on disk: JSON lines while the run goes on (a killed run stays readable), Parquet when it has ended."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise, takewhile
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.atomic_io import disk_errors
from tokenhour.contracts.records.request import RequestRow
from tokenhour.contracts.records.telemetry import TelemetryRow

Row = TypeVar("Row", RequestRow, TelemetryRow)
_BATCH_ROWS, _BATCH_CHUNKS = 2000, 100_000
"""Of a row group: what is written or read at once, and so how much memory a table of any length takes beside its rows."""
_ARRAYS: dict[Any, Any] = {Sequence[float]: np.float64, Sequence[int]: np.int32}
"""Fields of these types are arrays in memory and lists in a table."""
_LISTS = {name: _ARRAYS[hint] for name, hint in get_type_hints(RequestRow).items() if hint in _ARRAYS}


def read_lines(file: Path, after: int = 0) -> Iterator[object]:
    """Yield the JSON values of a file of lines, those that begin after so many bytes; a torn last line is left out."""
    if not file.is_file():
        return
    with file.open("rb") as stream:
        if after:
            stream.seek(after - 1)
            stream.readline()
        for line in stream:
            try:
                yield json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError):
                return


def _compact(row: dict[str, Any]) -> RequestRow:
    """Make a request row whose lists are arrays: a million chunks take 12 MB then, not 60."""
    for name, kind in _LISTS.items():
        row[name] = np.asarray(row[name], dtype=kind)
    return RequestRow(**row)


def request_rows(file: Path) -> Iterator[RequestRow]:
    """Yield the requests of a file of JSON lines."""
    return (_compact(row) for row in read_lines(file) if isinstance(row, dict))


def telemetry_rows(file: Path, after: int = 0) -> Iterator[TelemetryRow]:
    """Yield the telemetry samples of a file of JSON lines, those that begin after so many bytes."""
    return (TelemetryRow(*row) for row in read_lines(file, after) if isinstance(row, list))


_NO_CHUNKS: dict[str, Any] = {name: np.empty(0, dtype=kind) for name, kind in _LISTS.items()}
_PIECE_BYTES = 1 << 20


def _ends(line: bytes) -> bool:
    return line.endswith(b"\n")


class LineTail:
    """Reads the rows of a file that is still being written, piece by piece: memory holds the rows and not the text.

    Without `chunks` their lists of chunks are left empty (the counts stay): all that watching a probe wants, and so little
    that a probe of any length can be watched.
    """

    def __init__(self, file: Path, *, chunks: bool = True) -> None:
        self._file = file
        self._at = 0
        self._chunks = chunks

    def rows(self) -> list[RequestRow]:
        """Return the whole rows that have been written since the last call."""
        if not self._file.is_file():
            return []
        found: list[RequestRow] = []
        with self._file.open("rb") as stream:
            stream.seek(self._at)
            while lines := stream.readlines(_PIECE_BYTES):
                # Not the last line alone may be torn: readlines goes on with what was written after it met the end.
                whole = list(takewhile(_ends, lines))
                self._at += sum(map(len, whole))
                found += [self._row(json.loads(line)) for line in whole]
                if len(whole) < len(lines):
                    break
        return found

    def _row(self, row: dict[str, Any]) -> RequestRow:
        return _compact(row) if self._chunks else RequestRow(**row | _NO_CHUNKS)


def write_table(file: Path, rows: Iterable[RequestRow] | Iterable[TelemetryRow], kind: type) -> None:
    """Write rows as a Parquet table, batch by batch and atomically; the columns are the fields of `kind`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, _arrow_type(pa, hint)) for name, hint in get_type_hints(kind).items()])
    part = file.with_name(f".{file.name}.part")
    with disk_errors(file):
        try:
            with pq.ParquetWriter(part, schema, compression="zstd") as writer:
                for batch in _batches(rows):
                    columns = {name: [getattr(row, name) for row in batch] for name in schema.names}
                    writer.write_table(pa.table(columns, schema=schema))
            os.replace(part, file)  # noqa: PTH105 (the same on paths)
        finally:
            part.unlink(missing_ok=True)


def _batches(rows: Iterable[RequestRow] | Iterable[TelemetryRow]) -> Iterator[list[RequestRow | TelemetryRow]]:
    batch: list[RequestRow | TelemetryRow] = []
    chunks = 0
    for row in rows:
        batch.append(row)
        chunks += row.chunks if isinstance(row, RequestRow) else 0
        if len(batch) >= _BATCH_ROWS or chunks >= _BATCH_CHUNKS:
            yield batch
            batch, chunks = [], 0
    if batch:
        yield batch


def _arrow_type(pa: Any, hint: Any) -> Any:
    """Return a column's type; any may be empty."""
    if hint in _ARRAYS:
        return pa.list_(pa.from_numpy_dtype(_ARRAYS[hint]))
    if get_origin(hint) is Literal:
        return pa.string()
    (simple,) = (kind for kind in get_args(hint) or (hint,) if kind is not NoneType)
    return {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}[simple]


def read_table(file: Path, kind: Callable[..., Row]) -> list[Row]:
    """Read a Parquet table back into rows; InputError when it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: list[Row] = []
    try:
        with pq.ParquetFile(file) as table:
            groups = (
                table.iter_batches(_BATCH_ROWS, row_groups=[k], use_threads=False) for k in range(table.num_row_groups)
            )
            for batch in chain.from_iterable(groups):
                columns = {name: _values(batch.column(name)) for name in batch.schema.names}
                found += [kind(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"no readable table: {error}", where=str(file), remedy="run the measurement again") from error
    return found


def _values(column: Any) -> list[Any]:
    """Turn a column into Python values; lists become arrays that share the batch's memory."""
    import pyarrow as pa

    if not pa.types.is_list(column.type):
        return list(column.to_pylist())
    flat = column.flatten().to_numpy(zero_copy_only=False)
    edges = np.concatenate([[0], np.cumsum(column.value_lengths().to_numpy(zero_copy_only=False))]).astype(np.int64)
    return [flat[a:b] for a, b in pairwise(edges)]
