"""The verdict for other tools: CSV, JSON, a workbook that computes, and a bill in FOCUS columns."""

from __future__ import annotations

from pathlib import Path

from tokenhour.breakeven.report.exports.csv_json import to_csv, to_json
from tokenhour.breakeven.report.exports.focus import to_focus
from tokenhour.breakeven.report.exports.xlsx import to_xlsx
from tokenhour.contracts.io.atomic_io import write_bytes_atomic
from tokenhour.contracts.records.verdict import Verdict

CSV_FILE = "report.csv"
JSON_FILE = "report.json"
XLSX_FILE = "report.xlsx"
FOCUS_FILE = "report-focus.csv"


def write_all(folder: Path, verdict: Verdict) -> tuple[str, ...]:
    """Write every export into `folder`; return their names. Without a capacity there is no bill and no workbook."""
    write_bytes_atomic(folder / CSV_FILE, to_csv(verdict))
    write_bytes_atomic(folder / JSON_FILE, to_json(verdict))
    best = verdict.best
    if best is None or verdict.economics is None or verdict.traffic is None:
        return (CSV_FILE, JSON_FILE)
    write_bytes_atomic(folder / FOCUS_FILE, to_focus(verdict))
    write_bytes_atomic(folder / XLSX_FILE, to_xlsx(verdict, best))
    return (CSV_FILE, JSON_FILE, XLSX_FILE, FOCUS_FILE)
