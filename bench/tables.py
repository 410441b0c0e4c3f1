"""Raw records on disk: JSON lines while the run goes on (a killed run stays readable), Parquet when it has ended."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TypeVar

from contracts.errors import InputError
from contracts.request import RequestRow
from contracts.store import write_bytes_atomic
from contracts.telemetry import TelemetryRow

Row = TypeVar("Row", RequestRow, TelemetryRow)


def read_lines(file: Path) -> Iterator[object]:
    """Yield the JSON values of a file of lines; a torn last line is left out."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8") as stream:
        for line in stream:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return


def request_rows(file: Path) -> list[RequestRow]:
    """Read requests from JSON lines."""
    return [RequestRow(**row) for row in read_lines(file) if isinstance(row, dict)]


def telemetry_rows(file: Path) -> list[TelemetryRow]:
    """Read telemetry samples from JSON lines."""
    return [TelemetryRow(*row) for row in read_lines(file) if isinstance(row, list)]


def write_table(file: Path, rows: Sequence[RequestRow] | Sequence[TelemetryRow], kind: type) -> None:
    """Write rows as a Parquet table, atomically; the columns are the fields of `kind`."""
    import pandas as pd

    frame = pd.DataFrame([asdict(row) for row in rows], columns=[f.name for f in fields(kind)])
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow", compression="zstd", index=False)
    write_bytes_atomic(file, buffer.getvalue())


def read_table(file: Path, kind: Callable[..., Row]) -> list[Row]:
    """Read a Parquet table back into rows; InputError when it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"no readable table: {error}", where=str(file), remedy="run the measurement again") from error
    return [kind(**row) for row in table.to_pylist()]
