"""Every record that the house writes has a page that says its fields, generated from the code."""

import importlib
from dataclasses import fields
from pathlib import Path

import pytest

from tokenhour.contracts.record import Record
from tokenhour.contracts.records.request import RequestRow
from tokenhour.frontdoor.docgen import row_pages
from tokenhour.frontdoor.docgen.schemas import RECORDS, ROOT, generated, main
from tokenhour.frontdoor.docgen.type_names import cell
from tokenhour.machine.run_folder import EVENTS_FILE

MODULES = [file for file in Path("contracts").rglob("*.py") if file.stem != "__init__"]


def test_every_record_of_the_contracts_has_a_page() -> None:
    """Every kind of record is documented, so no file on disk is left unexplained."""
    for file in MODULES:
        importlib.import_module(".".join(("tokenhour", *file.with_suffix("").parts)))
    kinds = {kind for kind in Record.__subclasses__() if kind.__module__.startswith("tokenhour.contracts.")}
    assert len(kinds) > 15
    assert kinds <= set(RECORDS)


def test_every_file_of_rows_has_a_page_with_every_column() -> None:
    """Each file of rows has a page that lists every column it contains."""
    named = {line.split('"')[1] for file in MODULES for line in file.read_text().splitlines() if "_FILE = " in line}
    named.add(EVENTS_FILE)
    assert named == {rows.file for rows in row_pages.ROWS}
    texts = {path.stem: text for path, text in generated()}
    for rows in row_pages.ROWS:
        assert all(f"| `{field.name}` |" in texts[rows.name] for field in fields(rows.kind))


def test_a_column_says_its_type_and_its_meaning() -> None:
    """The pages give each column a readable type, its presence and its meaning."""
    text = row_pages.page(row_pages.ROWS[0])
    assert "| `chunk_offsets_s` | list of number |" in text
    assert "| `sent_s` | number or null |" in text
    assert "| `probe` | integer | always there | Which probe of the run. |" in text
    assert "`success`, `http_error`" in text
    assert row_pages.meanings(RequestRow)["scheduled_s"] == "Planned arrival."


def test_a_pipe_in_a_meaning_does_not_end_its_cell() -> None:
    """A pipe or line break in a description leaves the Markdown table intact."""
    assert cell(row_pages.meanings(Piped)["a"]) == "One \\| two lines."


class Piped:
    a: int
    """One | two
    lines."""


def test_check_names_a_page_that_is_out_of_date(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The check fails and names each outdated page until the pages are generated again."""
    monkeypatch.setattr("tokenhour.frontdoor.docgen.schemas.ROOT", tmp_path)
    assert main(["--check"]) == 1
    assert "docs/records/requests.md" in capsys.readouterr().out
    assert main([]) == 0
    assert main(["--check"]) == 0
    assert (tmp_path / "docs/records/telemetry.md").read_text() == (ROOT / "docs/records/telemetry.md").read_text()
