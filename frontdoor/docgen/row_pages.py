"""Pages of the records that are rows: a Parquet table, or a file of JSON lines; from their dataclasses in contracts/."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from typing import get_type_hints

from pydantic import TypeAdapter

from tokenhour.contracts.records.request import REQUESTS_FILE, RequestRow
from tokenhour.contracts.records.telemetry import TELEMETRY_FILE, TelemetryRow
from tokenhour.contracts.standalone.idle import IDLE_EVENTS_FILE, IdleEvent
from tokenhour.frontdoor.docgen.type_names import cell, type_words
from tokenhour.machine.run_folder import EVENTS_FILE, Event


@dataclass(frozen=True, slots=True)
class Rows:
    """A kind of row: the page's name, the class, the file, and what to know of the file."""

    name: str
    kind: type
    file: str
    about: str


ROWS = (
    Rows(
        "requests",
        RequestRow,
        REQUESTS_FILE,
        "A row a request, of all probes. While a run goes on, the rows are JSON lines in `raw/requests-PROBE-WORKER.jsonl`, "
        "one file a worker; a killed run stays readable. Statistics are derived from this table and can be derived again: "
        "`tokenhour bench summarize RUN`.",
    ),
    Rows(
        "telemetry",
        TelemetryRow,
        TELEMETRY_FILE,
        "A row a sample and metric. While a run goes on, the samples are JSON lines in `raw/telemetry.jsonl`, each a list "
        "in the order of these columns.",
    ),
    Rows("events", Event, EVENTS_FILE, "The log of a run's folder: a JSON object a line, one for each thing a stage did."),
    Rows(
        "idle-events", IdleEvent, IDLE_EVENTS_FILE, "What a resting engine did: a JSON object a line, written as it happens."
    ),
)


def pages() -> Iterator[tuple[str, str]]:
    """Yield (name, text) of every page."""
    for rows in ROWS:
        yield rows.name, page(rows)


def page(rows: Rows) -> str:
    """Write a page: what the file is, then column, type, default, meaning."""
    said, hints = meanings(rows.kind), get_type_hints(rows.kind)
    about = (sys.modules[rows.kind.__module__].__doc__ or "").split("\n\nHistory")[0]
    text = [
        f"# {rows.name}\n",
        "Generated from `contracts/` by `make schemas`.\n",
        f"`{rows.file}`. {rows.about}\n",
        f"## {rows.kind.__name__}\n",
        f"{' '.join((rows.kind.__doc__ or '').split())}\n",
        *([f"{' '.join(about.split())}\n"] if rows.kind in {RequestRow, TelemetryRow} else []),
        "| column | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for field in fields(rows.kind):
        default = "always there" if field.default is MISSING else f"`{field.default!r}`"
        kind = type_words(TypeAdapter(hints[field.name]).json_schema())
        text.append(f"| `{field.name}` | {cell(kind)} | {default} | {cell(said.get(field.name, ''))} |")
    return "\n".join(text) + "\n"


def meanings(kind: type) -> dict[str, str]:
    """Read the docstring under each field of a dataclass, from its source."""
    body = next(node for node in ast.parse(inspect.getsource(kind)).body if isinstance(node, ast.ClassDef)).body
    found = {}
    for field, after in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            found[field.target.id] = str(ast.literal_eval(after.value))
    return found
